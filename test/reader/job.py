"""Jobs and submissions: docs/spec/job.md."""

import datetime
import re

from common import (Refused, base64_bytes, digest, integer, jcs, mapping, members, need, open_dsse, parse,
                    public_key, sha256, text)

MALFORMED, UNSUPPORTED, TOO_BIG = "malformed", "unsupported", "too_big"
UNAUTHORISED, EXPIRED = "unauthorised", "expired"
KIND = "application/vnd.phase.job-submission+json"
INPUT_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NOTHING = "sha256:" + sha256(b"").hex()
LIMITS = {"memory_bytes": 67108864, "deadline_ms": 20000, "stdout_bytes": 1048576, "stderr_bytes": 262144,
          "fuel": 400000000000}


def form(given, types):
    """The form of everything comes before what it says."""
    for name, kind in types.items():
        if name in given:
            need(isinstance(given[name], kind) and not isinstance(given[name], bool), MALFORMED, name)


def plain(value):
    need("\0" not in text(value, MALFORMED), MALFORMED, "NUL")


def size(value):
    return len(value.encode())


def canonical(raw):
    """The canonical form of a job."""
    need(len(raw) <= 1048576, TOO_BIG)
    given = members(parse(raw, 8, MALFORMED), [], ["version", "module_hash", "args", "env", "stdin", "inputs", "limits",
                                                  "determinism", "nonce"], MALFORMED)
    form(given, {"version": int, "module_hash": str, "args": list, "env": dict, "stdin": str, "inputs": dict,
                 "limits": dict, "determinism": str, "nonce": str})
    job = {"args": [], "env": {}, "stdin": "", "inputs": {}, "nonce": ""} | given
    job["determinism"] = given.get("determinism") or "strict"
    members(job["limits"] if "limits" in job else {}, [], LIMITS, MALFORMED)
    job["limits"] = {n: integer(job.get("limits", {}).get(n, 0), MALFORMED) or d for n, d in LIMITS.items()}
    for one in job["args"] + list(job["env"].values()):
        text(one, MALFORMED)
    stdin = base64_bytes(job["stdin"], MALFORMED)
    for name, given in job["inputs"].items():
        members(given, [], ["digest", "size"], MALFORMED)
        digest(given.get("digest", ""), MALFORMED)
        job["inputs"][name] = {"size": 0} | given
        integer(job["inputs"][name]["size"], MALFORMED)
    need(job.get("version") == 1, UNSUPPORTED)
    digest(job.get("module_hash", ""), MALFORMED)
    need(job["determinism"] in ("strict", "relaxed"), UNSUPPORTED)
    need(len(job["args"]) <= 1024 and len(job["env"]) <= 256 and len(stdin) <= 524288, TOO_BIG)
    need(size(job["nonce"]) <= 128, TOO_BIG)
    for one in job["args"] + list(job["env"]) + list(job["env"].values()) + [job["nonce"]]:
        plain(one)
    need(all(name and "=" not in name for name in job["env"]), MALFORMED)
    need(len(jcs(job["args"])) <= 32768, TOO_BIG)
    need(sum(size(n) + size(v) + 2 for n, v in job["env"].items()) <= 65536, TOO_BIG)
    check_inputs(job["inputs"])
    need(all(v >= 0 for v in job["limits"].values()), MALFORMED)
    if not job["inputs"]:
        del job["inputs"]
    out = jcs(job)
    need(len(out) <= 1048576, TOO_BIG)
    return job, out


def check_inputs(inputs):
    need(len(inputs) <= 16, TOO_BIG)
    for name, given in inputs.items():
        need(INPUT_NAME.fullmatch(name) and given["size"] >= 0, MALFORMED)
        need(given["size"] > 0 or given["digest"] == NOTHING, MALFORMED)
    need(sum(given["size"] for given in inputs.values()) <= 2**40, TOO_BIG)


def signed_by(raw, keys):
    """The payload, and which of the keys have signed it."""
    found, payload = [], None
    for key in keys:
        try:
            payload = open_dsse(raw, KIND, key, 1411754, MALFORMED, UNAUTHORISED, TOO_BIG)
            found.append(key)
        except Refused as e:
            if e.code != UNAUTHORISED:
                raise
    need(found, UNAUTHORISED)
    return payload, found


def moment(value):
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text(value, MALFORMED), re.ASCII), MALFORMED, "time")
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise Refused(MALFORMED) from None


def submission(raw, node, submitters, now):
    """The id of the job in a submission that node may take."""
    keys = [public_key(k, MALFORMED) for k in submitters]
    payload, signers = signed_by(raw, keys)
    w = members(parse(payload, 9, MALFORMED), [], ["version", "spec", "audience", "expires_at", "nonce", "submitter",
                                                 "commit"], MALFORMED)
    form(w, {"version": int, "audience": str, "expires_at": str, "nonce": str, "submitter": str})
    if "commit" in w:
        digest(w["commit"], MALFORMED)
    need(w.get("version", 0) == 1, UNSUPPORTED)
    need(w.get("audience", "") in ("any", node), UNAUTHORISED)
    submitter = public_key(w.get("submitter", ""), MALFORMED)
    need(submitter in keys and submitter in signers, UNAUTHORISED)
    nonce = w.get("nonce", "")
    need(16 <= size(nonce) <= 128 and "\0" not in nonce, MALFORMED)
    expires = moment(w.get("expires_at", ""))
    need(now < expires, EXPIRED)
    need(expires <= now + datetime.timedelta(hours=24, minutes=5), TOO_BIG)
    job, canon = canonical(jcs(mapping(w.get("spec"), MALFORMED)))
    if "commit" in w:
        need(w["audience"] != "any", MALFORMED)
        need(job["determinism"] == "strict", UNSUPPORTED)
    return "sha256:" + sha256(canon).hex()
