"""List what every run skipped, from pytest's reports, and fail if a test ran nowhere without a reason.

``python skips.py FOLDER`` reads the JUnit files of the runs. A test may be skipped in some runs; one that
is skipped in all of them has to be skipped for a reason that is stated here.
"""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

#: Why a test may be skipped in every run: the message of the skip, and what the test needs.
REASONS = {
    r"could not import 'torch'|^torch is not installed": "torch, where it can be installed",
    r"^[\w.,' ]+ is not installed$": "peers of the kit, where they can be installed",
    r"could not import 'jax'": "peers, likewise",
    r"^no other build of \w+ was found": "another BLAS beside NumPy's, where there is one",
    r"^there is no Node\.js here": "golden vectors are also read by JavaScript, where there is Node.js",
    r"^node and npm are not here|^npm cannot get onnxruntime-web": "a browser's runtime, where npm gets it",
    r"^there is no Chromium here": "an exported file in a browser, where there is Chromium",
    r"^g\+\+ (and the library of|does not find) onnxruntime": "a program in C++, where its headers are",
    r"^the set '.*' of larger embeddings is not in the repository$": "larger data, beside the checkout",
    r"^no such files here": "named pipes, where the system has them",
}


def cases(file):
    """Yield the test, and the reason if it was skipped, of each case in a report."""
    for case in ET.parse(file).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}".lstrip(":")
        skipped = case.find("skipped")
        if skipped is None:
            yield test, None
        elif skipped.get("type") != "pytest.xfail":
            message = skipped.get("message", "")
            if message == "collection skipped":  # a whole module: the text has the place and the reason
                message = ast.literal_eval(skipped.text)[-1]
            yield test, message.removeprefix("Skipped: ")


runs = sorted(Path(sys.argv[1]).glob("*.xml"))
ran, skipped = set(), defaultdict(list)
for run in runs:
    for test, reason in cases(run):
        if reason is None:
            ran |= {test, test.split("::")[0]}
        else:
            skipped[test, reason].append(run.stem)
if not ran:
    sys.exit(f"no test ran in {len(runs)} reports")

unexplained = []
for (test, reason), where in sorted(skipped.items()):
    elsewhere = test in ran
    known = any(re.search(pattern, reason) for pattern in REASONS)
    if not elsewhere and not known:
        unexplained.append(test)
    mark = "" if elsewhere else " and ran nowhere" if known else " and ran nowhere: NO STATED REASON"
    print(f"{test}: {reason or 'no reason'}; skipped in {', '.join(where)}{mark}")
print(f"{len(ran)} tests and modules ran, {len({t for t, _ in skipped} - ran)} ran nowhere")
if unexplained:
    sys.exit(f"{len(unexplained)} skipped in every run, for reasons that are not stated")
