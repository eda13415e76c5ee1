"""One file per endpoint: parse the body, submit a job, format the answer."""
