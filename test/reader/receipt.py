"""Receipts: docs/spec/receipt.md."""

import datetime
import re

from common import (Refused, digest, integer, jcs, listing, mapping, members, need, open_dsse, parse, public_key, sha256,
                    text, usable)

LARGE, FORM, SIGNATURE, NODE, KEY, JOB, OUTPUT, FUTURE, KIND, NO_KEY = ("VFY-%03d" % n for n in range(30, 40))
PREDICATE = "https://phasebased.dev/receipt/v0.2"
INPUT_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ENDS = ("exited", "trapped", "out_of_fuel", "out_of_memory", "output_cap", "deadline", "refused", "infra_error")


def within(value, low, high):
    need(low <= integer(value, FORM) <= high, FORM, "number")
    return value


def truth(value):
    need(isinstance(value, bool), FORM, "neither true nor false")


def texts(value):
    for one in listing(value, FORM):
        text(one, FORM)


def moment(value):
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text(value, FORM), re.ASCII), FORM, "time")
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise Refused(FORM) from None


def check_result(r):
    members(r, ["job_id", "module_digest", "args", "args_digest", "stdin_digest", "stdout", "stderr", "end_state",
                "exit_code", "limits", "fuel", "determinism"], ["trap", "inputs"], FORM)
    for name in ("job_id", "module_digest", "stdin_digest"):
        digest(r[name], FORM)
    texts(r["args"])
    need(digest(r["args_digest"], FORM) == sha256(jcs(r["args"])), FORM, "digest of the arguments")
    if "inputs" in r:
        need(1 <= len(mapping(r["inputs"], FORM)) <= 16, FORM, "number of inputs")
    for name, given in r.get("inputs", {}).items():
        need(INPUT_NAME.fullmatch(name), FORM, "name of an input")
        members(given, ["digest", "size"], [], FORM)
        digest(given["digest"], FORM)
        within(given["size"], 0, 2**40)
    for name in ("stdout", "stderr"):
        members(r[name], ["digest", "size", "truncated"], [], FORM)
        digest(r[name]["digest"], FORM)
        within(r[name]["size"], 0, 2**53)
        truth(r[name]["truncated"])
    need(r["end_state"] in ENDS, FORM, "end")
    within(r["exit_code"], 0, 2**32 - 1 if r["end_state"] == "exited" else 0)
    need(("trap" in r) == (r["end_state"] == "trapped") and text(r.get("trap", "x"), FORM), FORM, "trap")
    limits = ["memory_bytes", "deadline_ms", "stdout_bytes", "stderr_bytes", "fuel"]
    members(r["limits"], limits, [], FORM)
    for name in limits:
        within(r["limits"][name], 0, 2**53)
    members(r["fuel"], ["used", "cost_table"], [], FORM)
    within(r["fuel"]["used"], 0, r["limits"]["fuel"])
    within(r["fuel"]["cost_table"], 1, 2**53)
    need(r["end_state"] != "out_of_fuel" or r["fuel"]["used"] == r["limits"]["fuel"], FORM, "fuel is left")
    need(r["determinism"] in ("strict", "relaxed"), FORM, "determinism")


def check_observation(o):
    members(o, ["engine", "walls", "timings", "booted", "node_key"], ["submitter"], FORM)
    text(o["engine"], FORM)
    texts(o["walls"])
    spans = ["queue_ns", "fetch_ns", "compile_ns", "run_ns"]
    members(o["timings"], ["started_at"] + spans, [], FORM)
    moment(o["timings"]["started_at"])
    for name in spans:
        within(o["timings"][name], 0, 2**53)
    if o["booted"] is not None:
        members(o["booted"], ["manifest_version", "manifest_digest", "channel", "arch"], [], FORM)
        within(o["booted"]["manifest_version"], 1, 2**53)
        digest(o["booted"]["manifest_digest"], FORM)
        text(o["booted"]["channel"], FORM)
        text(o["booted"]["arch"], FORM)
    public_key(o["node_key"], FORM)
    if "submitter" in o:
        public_key(o["submitter"], FORM)


def kind(payload):
    """The predicate type, whatever else is in it."""
    w = mapping(parse(payload, 8, FORM, null=True), FORM)
    return text(w.get("predicateType", ""), FORM)


def read(raw, node):
    """Result and observation of a receipt that node has signed."""
    payload = open_dsse(raw, "application/vnd.in-toto+json", node, 65536, FORM, SIGNATURE, LARGE)
    is_of = kind(payload)
    if is_of != PREDICATE:
        raise Refused(KIND if is_of.startswith("https://phasebased.dev/receipt/v") else FORM)
    w = parse(payload, 8, FORM, null=True)
    need(jcs(w) == payload, FORM, "not canonical")
    members(w, ["_type", "subject", "predicateType", "predicate"], [], FORM)
    need(w["_type"] == "https://in-toto.io/Statement/v1", FORM)
    members(w["predicate"], ["result", "observation"], [], FORM)
    result, seen = w["predicate"]["result"], w["predicate"]["observation"]
    check_result(result)
    check_observation(seen)
    subject = [{"name": n, "digest": {"sha256": result[n]["digest"][7:]}} for n in ("stdout", "stderr")]
    need(jcs(w["subject"]) == jcs(subject), FORM, "subject")
    need(public_key(seen["node_key"], FORM) == node, NODE)
    return result, seen


def judge(raw, want):
    """Raises what is wrong with a receipt, for somebody who knows what is in want."""
    need(want.get("node_key"), NO_KEY)
    need(len(raw) <= 65536, LARGE)
    node = bytes.fromhex(want["node_key"].removeprefix("ed25519:"))
    need(usable(node), KEY)
    result, seen = read(raw, node)
    need(want.get("job_id", result["job_id"]) == result["job_id"], JOB)
    for name in ("stdout", "stderr"):
        need(want.get(name, result[name]["digest"]) == result[name]["digest"], OUTPUT)
    if "clock" in want:
        clock = datetime.datetime.strptime(want["clock"], "%Y-%m-%dT%H:%M:%SZ")
        need(moment(seen["timings"]["started_at"]) <= clock + datetime.timedelta(minutes=5), FUTURE)


def verdict(code):
    if not code:
        return "ACCEPT"
    return "UNVERIFIABLE" if code in (KEY, KIND, NO_KEY) else "REJECT"
