"""Judges the vectors of this repository by the specifications.

    python3 test/reader/main.py manifest/testdata quorum/testdata/vectors receipt/testdata internal/job/testdata

prints a line for each vector on which the specifications and the vectors disagree, and how
many agreed. Exit status 0: all did.
"""

import datetime
import json
import pathlib
import sys

import boot
import job
import quorum
import receipt
from common import Refused, public_key


def chain(folder, vector):
    """Follows a chain of roots as far as it leads."""
    first, *others = vector["files"]
    root = boot.Root((folder / first).read_bytes()).check()
    try:
        for name in others:
            root = root.follow((folder / name).read_bytes())
    finally:
        if root.version != vector["version"]:
            raise ValueError("it ends at root version %d" % root.version)


def judge_boot(folder, vector):
    raw = (folder / vector["files"][0]).read_bytes()
    if vector["kind"] == "chain":
        return chain(folder, vector)
    if vector["kind"] == "root":
        return boot.Root(raw).check()
    now = datetime.datetime.strptime(vector["clock"], "%Y-%m-%dT%H:%M:%SZ")
    root = boot.Root((folder / vector["root"]).read_bytes()).check()
    want = {name: vector.get(name) for name in ("channel", "arch")}
    if vector["kind"] == "pointer":
        return boot.pointer(raw, root, want, now)
    named = None
    if "pointer" in vector:
        def named():
            return boot.pointer((folder / vector["pointer"]).read_bytes(), root, want, now)
    return boot.manifest(raw, root, want, now, vector.get("floor", {}), named, vector["kind"] == "last-good")


def judge_quorum(folder, vector):
    raw = (folder / vector["file"]).read_bytes()
    kind = vector["file"].split("-")[0]
    if kind == "statement":
        return quorum.statement(raw)
    if kind == "fraud":
        return quorum.fraud(raw)
    read = {"commitment": quorum.Commitment, "set": quorum.Set, "opening": quorum.Opening}[kind]
    return read(raw, public_key(vector["key"], "key"))


def judge_receipt(folder, vector):
    receipt.judge(vector["file"].encode(), vector)


def judge_submission(folder, vector):
    now = datetime.datetime.strptime(vector["clock"], "%Y-%m-%dT%H:%M:%SZ")
    got = job.submission(vector["file"].encode(), vector["node"], vector["submitters"], now)
    if got != vector["job_id"]:
        raise ValueError("the job's id is %s" % got)


def verdict(judge, folder, vector):
    try:
        judge(folder, vector)
    except Refused as e:
        return e.code
    return ""


def load(folder, index):
    """The vectors of a list; what all of one have in common is told to each."""
    vectors = json.loads((folder / index).read_text())
    if isinstance(vectors, dict):
        common = {name: value for name, value in vectors.items() if name != "vectors"}
        vectors = [common | vector for vector in vectors["vectors"]]
    return vectors


def main(boots, quorums, receipts, jobs):
    agreed = wrong = passed = 0
    lists = ((judge_boot, boots, "vectors.json", "name"), (judge_quorum, quorums, "index.json", "file"),
             (judge_receipt, receipts, "vectors.json", "name"), (judge_submission, jobs, "submissions.json", "name"))
    for judge, folder, index, name in lists:
        for vector in load(folder, index):
            if "policy" in vector:  # step 15, the log proof, has a specification of others
                passed += 1
                continue
            got, want = verdict(judge, folder, vector), vector.get("code", vector.get("reason", ""))
            if got == want and receipt.verdict(got) == vector.get("verdict", receipt.verdict(got)):
                agreed += 1
                continue
            wrong += 1
            print("%s: the specifications say %r, the vector %r" % (vector[name], got, want))
    print("%d vectors agree, %d do not, %d were not judged" % (agreed, wrong, passed))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(*(pathlib.Path(p) for p in sys.argv[1:5])))
