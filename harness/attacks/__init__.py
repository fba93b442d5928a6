"""Attacks: functions that climb a loss on a surface; the deployed decision alone is success."""
