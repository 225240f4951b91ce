"""Runs Autobahn's cases against a WebSocket server; `cargo xtask test autobahn` judges what they say.

usage: autobahn.py URL PATTERN... [-- PATTERN...]

The patterns name cases (`1.*`, `9.7.1`), those behind `--` leave some out. Prints a JSON list.
"""

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient

# Longer than all of it takes, so that a server that hangs is a failure and not a wait.
PATIENCE_SECONDS = 300


async def main(url, *patterns):
    end = patterns.index("--") if "--" in patterns else len(patterns)
    cases, without = list(patterns[:end]), list(patterns[end + 1 :])
    run = run_fuzzingclient(url, cases, without or None, concurrency=4)
    try:
        results = await asyncio.wait_for(run, PATIENCE_SECONDS)
    except FailureError as failure:
        results = failure.results
    print(
        json.dumps(
            [
                {
                    "case": result.case_id,
                    "passed": result.passed,
                    "behavior": result.behavior.value,
                    "why": f"{result.result} {result.result_close}",
                }
                for result in results
            ]
        )
    )


asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
# kosoku's own threads may still hold Python objects; an orderly end of the interpreter sometimes aborts on them.
os._exit(0)
