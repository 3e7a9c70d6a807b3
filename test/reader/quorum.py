"""Commitments, sets, openings, statements and proofs of fraud: docs/spec/quorum.md, with
as much of docs/spec/receipt.md as they need."""

import re

from common import (Refused, base64_bytes, digest, integer, jcs, listing, mapping, members, need, open_dsse, parse,
                    public_key, sha256, text)

MALFORMED, SIGNATURE, ROUND, SET, OUTCOME, UNDECIDED = ("VFY-%03d" % n for n in range(50, 56))
PLAN, NO_FRAUD = "VFY-057", "VFY-058"
RECEIPT_LARGE, RECEIPT_FORM, RECEIPT_SIGNATURE, RECEIPT_NODE, RECEIPT_KIND = (
    "VFY-030", "VFY-031", "VFY-032", "VFY-033", "VFY-038")
INPUT_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
IN_TOTO = "application/vnd.in-toto+json"


def printable(value, most):
    need(len(text(value, MALFORMED).encode()) <= most, MALFORMED)
    return all(c == " " or c.isprintable() for c in value)


def unseal(raw, kind, key, most):
    payload = open_dsse(raw, kind, key, most, MALFORMED, SIGNATURE)
    value = parse(payload, 16, MALFORMED)
    need(jcs(value) == payload, MALFORMED, "not canonical")
    return value, sha256(payload)


def canonical_file(raw, most, depth=4):
    need(len(raw) <= most and jcs(parse(raw, depth, MALFORMED)) == raw, MALFORMED, "not canonical")


def digests(value, names):
    return {name: digest(value[name], MALFORMED) for name in names}


class Plan:
    def __init__(self, p):
        members(p, ["job_id", "submitter", "nodes", "replicas", "quorum", "max_nodes", "cost_table", "beacon",
                    "nonce"], [], MALFORMED)
        for name in ("replicas", "quorum", "max_nodes", "cost_table"):
            integer(p[name], MALFORMED)
        self.job, self.submitter = digest(p["job_id"], MALFORMED), public_key(p["submitter"], MALFORMED)
        self.replicas, self.quorum, self.most = p["replicas"], p["quorum"], p["max_nodes"]
        self.cost_table, self.beacon = p["cost_table"], base64_bytes(p["beacon"], MALFORMED)
        self.voters, keys = {}, []
        for n in listing(p["nodes"], MALFORMED):
            members(n, ["key"], ["operator"], MALFORMED)
            need(n.get("operator", " "), MALFORMED)
            keys.append(public_key(n["key"], MALFORMED))
            self.voters[keys[-1]] = text(n.get("operator", ""), MALFORMED) or keys[-1]
            need(len(n.get("operator", "").encode()) <= 64 and printable(n.get("operator", ""), 64), PLAN)
        need(self.replicas <= self.most <= 64 and 2 <= self.quorum <= self.replicas < 2 * self.quorum, PLAN)
        need(self.cost_table >= 1 and len(self.beacon) <= 64, PLAN)
        need(16 <= len(text(p["nonce"], MALFORMED).encode()) <= 128 and printable(p["nonce"], 128), PLAN)
        need(self.quorum <= len(keys) <= 128 and len(self.voters) == len(keys), PLAN)
        need(keys == sorted(keys), MALFORMED, "order of nodes")
        self.digest = sha256(jcs(p))

    def order(self):
        target = sha256(self.job + self.beacon)
        order, seen = [], set()
        for key in sorted(self.voters, key=lambda k: bytes(a ^ b for a, b in zip(sha256(k), target))):
            if self.voters[key] not in seen:
                order.append(key)
            seen.add(self.voters[key])
        return order


class Commitment:
    def __init__(self, raw, node):
        w, self.digest = unseal(raw, "application/vnd.phase.quorum-commitment+json", node, 4096)
        names = ["job_id", "plan", "submission", "hash"]
        members(w, names + ["version", "node"], [], MALFORMED)
        self.says = digests(w, names)
        named = public_key(w["node"], MALFORMED)
        need(w["version"] == 1, MALFORMED)
        need(named == node, SIGNATURE)
        canonical_file(raw, 4096)
        self.node, self.hash = node, self.says["hash"]


def claimed(envelope):
    """A commitment, under the key that it names."""
    raw = jcs(envelope)
    try:
        payload = base64_bytes(mapping(envelope, MALFORMED)["payload"], MALFORMED)
        named = mapping(parse(payload, 16, MALFORMED), MALFORMED)["node"]
    except KeyError:
        raise Refused(MALFORMED) from None
    return Commitment(raw, public_key(named, MALFORMED))


class Set:
    def __init__(self, raw, submitter):
        w, self.digest = unseal(raw, "application/vnd.phase.quorum-set+json", submitter, 131072)
        members(w, ["version", "plan", "wave", "commitments"], ["previous"], MALFORMED)
        self.wave = integer(w["wave"], MALFORMED)
        self.previous = digest(w["previous"], MALFORMED) if "previous" in w else None
        need(w["version"] == 1 and 1 <= self.wave <= 64, MALFORMED)
        need((self.wave == 1) == (self.previous is None), MALFORMED)
        need(1 <= len(listing(w["commitments"], MALFORMED)) <= 64, SET)
        self.plan = Plan(w["plan"])
        need(self.plan.submitter == submitter, SIGNATURE)
        need(len(w["commitments"]) <= self.plan.replicas, SET)
        self.of, voters = {}, set()
        for envelope in w["commitments"]:
            c = claimed(envelope)
            need(c.says["job_id"] == self.plan.job and c.says["plan"] == self.plan.digest, ROUND)
            voter = self.plan.voters.get(c.node)
            need(voter is not None and voter not in voters, SET)
            need(not self.of or max(self.of) < c.node, MALFORMED, "order of commitments")
            voters.add(voter)
            self.of[c.node] = c


class Opening:
    def __init__(self, raw, node):
        w, _ = unseal(raw, "application/vnd.phase.quorum-opening+json", node, 4096)
        names = ["plan", "set", "commitment", "receipt"]
        members(w, names + ["version", "node", "secret"], [], MALFORMED)
        self.says = digests(w, names)
        named = public_key(w["node"], MALFORMED)
        need(w["version"] == 1, MALFORMED)
        need(named == node, SIGNATURE)
        self.secret = base64_bytes(w["secret"], MALFORMED)
        need(len(self.secret) == 32, MALFORMED)
        canonical_file(raw, 4096)

    def opens(self, c):
        parts = [c.node, c.says["job_id"], c.says["plan"], c.says["submission"], self.says["receipt"], self.secret]
        return c.hash == sha256(b"phase-commit-v1" + b"".join(parts))


def receipt(raw, node):
    """Result and observation of a receipt that node has signed."""
    payload = open_dsse(raw, IN_TOTO, node, 65536, RECEIPT_FORM, RECEIPT_SIGNATURE, RECEIPT_LARGE)
    w = mapping(parse(payload, 8, RECEIPT_FORM, null=True), RECEIPT_FORM)
    need(jcs(w) == payload, RECEIPT_FORM)
    need(w.get("predicateType") == "https://phasebased.dev/receipt/v0.2", RECEIPT_KIND)
    members(w, ["_type", "subject", "predicateType", "predicate"], [], RECEIPT_FORM)
    members(w["predicate"], ["result", "observation"], [], RECEIPT_FORM)
    result, seen = w["predicate"]["result"], w["predicate"]["observation"]
    members(result, ["job_id", "module_digest", "args", "args_digest", "stdin_digest", "stdout", "stderr",
                     "end_state", "exit_code", "limits", "fuel", "determinism"], ["trap", "inputs"], RECEIPT_FORM)
    if "inputs" in result:
        need(1 <= len(mapping(result["inputs"], RECEIPT_FORM)) <= 16, RECEIPT_FORM)
    for name, given in result.get("inputs", {}).items():
        need(re.fullmatch(INPUT_NAME, name), RECEIPT_FORM, "name of an input")
        members(given, ["digest", "size"], [], RECEIPT_FORM)
        digest(given["digest"], RECEIPT_FORM)
        need(0 <= integer(given["size"], RECEIPT_FORM) <= 2**40, RECEIPT_FORM)
    members(seen, ["engine", "walls", "timings", "booted", "node_key"], ["submitter"], RECEIPT_FORM)
    need(digest(result["args_digest"], RECEIPT_FORM) == sha256(jcs(result["args"])), RECEIPT_FORM)
    subject = [{"name": n, "digest": {"sha256": result[n]["digest"][7:]}} for n in ("stdout", "stderr")]
    need(w["subject"] == subject, RECEIPT_FORM)
    need(public_key(seen["node_key"], RECEIPT_FORM) == node, RECEIPT_NODE)
    return result, seen


def comparable(result):
    if result["determinism"] != "strict":
        return False
    if result["end_state"] == "out_of_memory":
        return result["fuel"]["used"] > 0
    return result["end_state"] in ("exited", "trapped", "out_of_fuel", "output_cap")


class Tally:
    """Works out what follows from plan and waves."""

    def __init__(self, plan):
        self.plan, self.order = plan, plan.order()
        self.nodes, self.results = [], {}
        self.hashes, self.opened = {}, set()
        self.last = self.agreed = None
        self.more = 1

    def add(self, number, w, last):
        need(number == 1 or self.more > 0, OUTCOME, "a wave that was not called for")
        members(w, ["silent", "reveals"], ["set"], MALFORMED)
        commitments, s = {}, None
        if "set" in w:
            s = self.read_set(number, jcs(w["set"]))
            commitments = s.of
        else:
            need(number > 1 and last and not w["reveals"] and w["silent"], SET)
        answers = self.answers(w["reveals"], s, commitments)
        for node, c in commitments.items():
            self.hashes[node] = c.hash
            self.nodes.append(self.stand(number, c, answers.get(node)))
        for n in listing(w["silent"], MALFORMED):
            members(n, ["node", "why"], [], MALFORMED)
            need(printable(n["why"], 200), MALFORMED)
            node = public_key(n["node"], MALFORMED)
            self.nodes.append({"node": node, "wave": number, "fate": "silent", "result": None, "why": n["why"]})
        self.in_order()
        self.decide()

    def read_set(self, number, raw):
        s = Set(raw, self.plan.submitter)
        before = self.last.digest if self.last else None
        need(s.plan.digest == self.plan.digest and s.wave == number and s.previous == before, ROUND)
        self.last = s
        return s

    def answers(self, reveals, s, commitments):
        found = {}
        for r in listing(reveals, MALFORMED):
            members(r, ["node", "receipt", "opening"], [], MALFORMED)
            node = public_key(r["node"], MALFORMED)
            need(node in commitments, SET)
            o, raw = Opening(jcs(r["opening"]), node), jcs(r["receipt"])
            fits = (self.plan.digest, s.digest, commitments[node].digest, sha256(raw))
            need((o.says["plan"], o.says["set"], o.says["commitment"], o.says["receipt"]) == fits, ROUND)
            need(node not in found, MALFORMED)
            found[node] = o, raw
        return found

    def stand(self, number, c, answer):
        standing = {"node": c.node, "wave": number, "fate": "stalled", "result": None, "why": ""}
        if answer:
            standing["fate"], standing["result"] = self.vote(c, *answer)
            if standing["fate"] != "misopened":
                self.opened.add(c.hash)
            if standing["fate"] != "voted":
                standing["why"] = None  # in the words of whoever made the statement
        return standing

    def vote(self, c, o, raw):
        if not o.opens(c):
            return "misopened", None
        try:
            result, seen = receipt(raw, c.node)
            mine = digest(result["job_id"], RECEIPT_FORM) == self.plan.job
            mine = mine and public_key(seen.get("submitter", ""), RECEIPT_FORM) == self.plan.submitter
        except Refused as e:
            return ("no_vote" if e.code == RECEIPT_KIND else "misopened"), None
        if not mine:
            return "misopened", None
        if result["fuel"]["cost_table"] != self.plan.cost_table or not comparable(result):
            return "no_vote", None
        vote = sha256(jcs(result))
        self.results[vote] = result
        return "voted", vote

    def in_order(self):
        asked = len(self.nodes)
        need(asked <= min(self.plan.most, len(self.order)), SET)
        need({n["node"] for n in self.nodes} == set(self.order[:asked]), SET, "passed over")
        self.nodes.sort(key=lambda n: self.order.index(n["node"]))

    def decide(self):
        votes = [n["result"] for n in self.nodes if n["result"]]
        self.cast, self.votes = len(votes), max((votes.count(v) for v in votes), default=0)
        self.agreed, self.more = None, 0
        if self.votes >= self.plan.quorum and 2 * self.votes > self.cast:
            self.agreed = max(votes, key=votes.count)
        else:
            more = max(self.plan.quorum - self.votes, self.cast - 2 * self.votes + 1)
            if more <= min(self.plan.most, len(self.order)) - len(self.nodes):
                self.more = more
        for n in self.nodes:
            if n["result"]:
                n["fate"] = "voted"
                if self.agreed:
                    n["fate"] = "agreed" if n["result"] == self.agreed else "dissented"
            elif n["fate"] in ("stalled", "misopened") and self.hashes[n["node"]] in self.opened:
                n["fate"] = "copied"

    def outcome(self, claimed_nodes):
        """Subject and outcome; words about nodes without a vote are taken over."""
        subject = [{"name": "job", "digest": {"sha256": self.plan.job.hex()}}]
        out = {"votes": self.votes, "cast": self.cast, "nodes": []}
        if self.agreed:
            out["result"] = "sha256:" + self.agreed.hex()
            for name in ("stdout", "stderr"):
                output = self.results[self.agreed][name]["digest"][7:]
                subject.append({"name": name, "digest": {"sha256": output}})
        need(len(claimed_nodes) == len(self.nodes), OUTCOME)
        for n, says in zip(self.nodes, claimed_nodes):
            why = says["why"] if n["why"] is None else n["why"]
            need(printable(why, 200), MALFORMED)
            one = {"node": "ed25519:" + n["node"].hex(), "wave": n["wave"], "fate": n["fate"], "why": why}
            if n["result"]:
                one["result"] = "sha256:" + n["result"].hex()
            out["nodes"].append(one)
        return subject, out


def statement(raw):
    need(len(raw) <= 8388608, MALFORMED)
    try:
        payload = base64_bytes(mapping(parse(raw, 16, MALFORMED), MALFORMED)["payload"], MALFORMED)
        submitter = parse(payload, 16, MALFORMED)["predicate"]["plan"]["submitter"]
    except (KeyError, TypeError):
        raise Refused(MALFORMED) from None
    w, _ = unseal(raw, IN_TOTO, public_key(submitter, MALFORMED), 8388608)
    members(w, ["_type", "subject", "predicateType", "predicate"], [], MALFORMED)
    need(w["_type"] == "https://in-toto.io/Statement/v1", MALFORMED)
    need(w["predicateType"] == "https://phasebased.dev/quorum/v0.1", MALFORMED)
    predicate = members(w["predicate"], ["plan", "waves", "outcome"], [], MALFORMED)
    says = members(predicate["outcome"], ["votes", "cast", "nodes"], ["result"], MALFORMED)
    for n in listing(says["nodes"], MALFORMED):
        members(n, ["node", "wave", "fate", "why"], ["result"], MALFORMED)
    waves = listing(predicate["waves"], MALFORMED)
    tally = Tally(Plan(predicate["plan"]))
    need(1 <= len(waves) <= 64, MALFORMED)
    for i, wave in enumerate(waves):
        tally.add(i + 1, wave, i + 1 == len(waves))
    subject, outcome = tally.outcome(says["nodes"])
    need(jcs(subject) == jcs(w["subject"]) and jcs(outcome) == jcs(says), OUTCOME)
    need(tally.agreed, UNDECIDED)


def fraud(raw):
    canonical_file(raw, 524288, 16)
    w = members(parse(raw, 16, MALFORMED), ["type", "kind", "key", "evidence"], [], MALFORMED)
    key = public_key(w["key"], MALFORMED)
    need(w["type"] == "https://phasebased.dev/fraud/v0.1", MALFORMED)
    need(len(listing(w["evidence"], MALFORMED)) == 2, MALFORMED)
    need(w["kind"] in ("two_results", "wrong_opening", "two_sets"), MALFORMED)
    a, b = (jcs(e) for e in w["evidence"])
    if w["kind"] == "two_results":
        (one, by), (two, other) = receipt(a, key), receipt(b, key)
        need(one["job_id"] == two["job_id"] and comparable(one) and comparable(two), NO_FRAUD)
        need(one["fuel"]["cost_table"] == two["fuel"]["cost_table"], NO_FRAUD)
        if by["engine"] != other["engine"]:
            one, two = ({n: v for n, v in r.items() if n != "trap"} for r in (one, two))
        need(jcs(one) != jcs(two), NO_FRAUD)
    elif w["kind"] == "wrong_opening":
        c, o = Commitment(a, key), Opening(b, key)
        need(o.says["commitment"] == c.digest and o.says["plan"] == c.says["plan"] and not o.opens(c), NO_FRAUD)
    else:
        one, two = Set(a, key), Set(b, key)
        need(one.plan.digest == two.plan.digest and one.wave == two.wave and one.digest != two.digest, NO_FRAUD)
