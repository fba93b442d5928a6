"""Executors: where jobs run; `map(function, jobs)` yields results as they finish."""
