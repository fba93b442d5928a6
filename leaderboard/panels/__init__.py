"""Parts of a checkpoint's page, one per file: what is known, ready to show, or None."""
