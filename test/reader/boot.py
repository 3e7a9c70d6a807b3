"""Roots, manifests and pointers: docs/spec/root.md, manifest.md and pointer.md, in the
order of docs/verification.md."""

import datetime
import re
from urllib.parse import urlsplit

from common import (base64_bytes, digest, hexadecimal, integer, jcs, key_id, listing, mapping, moment, need, pae,
                    parse, sha256, signed, text, usable, write)

SIZE, MALFORMED, KEY, SIGNATURE, SCHEMA, MIRRORED = ("VFY-%03d" % n for n in range(1, 7))
PRODUCT, CHANNEL, ARCH, ROLLBACK, SAME, POINTER = ("VFY-%03d" % n for n in range(7, 13))
EXPIRED, FUTURE, POLICY, LOG, ROOT_VERSION, CHAIN = ("VFY-%03d" % n for n in range(13, 19))

DAY = datetime.timedelta(days=1)


def tuf_form(value):
    """The canonical form that TUF signs."""

    def string(s):
        need(all(c >= " " for c in s), MALFORMED, "control character")
        return '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return write(value, string, lambda name: name.encode()).encode()


def unknown(value, known, form):
    for name in value:
        need(name in known or re.fullmatch(form, name), MALFORMED, "unknown member " + name)


class Root:
    ROLES = ("root", "targets", "timestamp", "snapshot")
    MEMBERS = ("_type", "spec_version", "version", "expires", "consistent_snapshot", "keys", "roles",
               "x-phase-channels", "x-phase-floors")
    UNKNOWN = "[a-z_][a-z0-9_.-]{0,63}"
    NAME = "[a-z][a-z0-9-]{0,31}"

    def __init__(self, raw):
        need(len(raw) <= 131072, SIZE)
        file = mapping(parse(raw, 16, MALFORMED), MALFORMED)
        need("signed" in file and set(file) <= {"signed", "signatures"}, MALFORMED)
        self.message = tuf_form(file["signed"])
        self.signatures = {}
        for s in listing(file.get("signatures", []), MALFORMED):
            need(set(mapping(s, MALFORMED)) == {"keyid", "sig"}, MALFORMED)
            need(text(s["keyid"], MALFORMED) not in self.signatures, MALFORMED, "one key twice")
            self.signatures[s["keyid"]] = hexadecimal(s["sig"], MALFORMED)
        self.read(mapping(file["signed"], MALFORMED))

    def read(self, w):
        self.types(w)
        need(w.get("_type") == "root", MALFORMED)
        need(re.fullmatch(r"1\.\d{1,4}(\.\d{1,4})?", w.get("spec_version", ""), re.ASCII), SCHEMA)
        self.version = w.get("version", 0)
        need(self.version >= 1 and "expires" in w and "consistent_snapshot" in w, MALFORMED)
        self.expires = moment(w["expires"], MALFORMED)
        need(all(r in w.get("roles", {}) for r in self.ROLES), MALFORMED, "roles")
        self.members(w)
        self.keys = {name: self.key(name, k) for name, k in sorted(w.get("keys", {}).items())}
        owned = set()
        self.roles = {n: self.role(n, r, owned) for n, r in sorted(w["roles"].items())}
        self.channels = {}
        for name, r in sorted(w.get("x-phase-channels", {}).items()):
            need(re.fullmatch(self.NAME, name) and set(r) <= {"keyids", "threshold"}, MALFORMED)
            self.channels[name] = self.role("", r, owned)
        self.floors = w.get("x-phase-floors", {})
        for name, f in self.floors.items():
            need(re.fullmatch(self.NAME, name) and set(f) == {"root", "version"}, MALFORMED)
            need(1 <= f["root"] <= self.version and f["version"] >= 1, MALFORMED)

    @staticmethod
    def types(w):
        """All values are of their types, before anything is made of them."""
        for name in ("_type", "spec_version"):
            text(w.get(name, ""), MALFORMED)
        integer(w.get("version", 0), MALFORMED)
        need(isinstance(w.get("consistent_snapshot", False), bool), MALFORMED)
        for k in mapping(w.get("keys", {}), MALFORMED).values():
            for value in (mapping(k, MALFORMED).get("keytype", ""), k.get("scheme", ""),
                          mapping(k.get("keyval", {}), MALFORMED).get("public", "")):
                text(value, MALFORMED)
        for name in ("roles", "x-phase-channels"):
            for r in mapping(w.get(name, {}), MALFORMED).values():
                integer(mapping(r, MALFORMED).get("threshold", 0), MALFORMED)
                for key in listing(r.get("keyids", []), MALFORMED):
                    text(key, MALFORMED)
        for f in mapping(w.get("x-phase-floors", {}), MALFORMED).values():
            for value in mapping(f, MALFORMED).values():
                integer(value, MALFORMED)

    def members(self, w):
        unknown(w, self.MEMBERS, self.UNKNOWN)
        for k in w.get("keys", {}).values():
            unknown(k, ("keytype", "scheme", "keyval"), self.UNKNOWN)
            unknown(k.get("keyval", {}), ("public",), self.UNKNOWN)
        for r in w["roles"].values():
            unknown(r, ("keyids", "threshold"), self.UNKNOWN)

    @staticmethod
    def key(name, k):
        need(k.get("keytype") == "ed25519" and k.get("scheme") == "ed25519", KEY)
        key = hexadecimal(k.get("keyval", {}).get("public", ""), KEY)
        need(usable(key) and key_id(key) == name, KEY)
        return key

    def role(self, name, r, owned):
        need("keyids" in r, MALFORMED)
        for k in r["keyids"]:
            need(k in self.keys, MALFORMED, "unknown key")
            need(k not in owned, KEY, "a key serves twice")
            owned.add(k)
        threshold = r.get("threshold", 0)
        need(threshold >= 1, MALFORMED)
        need(threshold <= len(r["keyids"]) or name == "snapshot" and not r["keyids"], MALFORMED)
        return [self.keys[k] for k in r["keyids"]], threshold

    def met(self, role):
        keys, threshold = role
        by = [k for k in keys if signed(k, self.message, self.signatures.get(key_id(k), b""))]
        return len(by) >= threshold

    def check(self):
        """Signed by itself, as the first root has to be."""
        need(self.met(self.roles["root"]), SIGNATURE)
        return self

    def follow(self, raw):
        """The root after this one."""
        successor = Root(raw)
        need(successor.met(self.roles["root"]) and successor.met(successor.roles["root"]), CHAIN)
        need(successor.version == self.version + 1, CHAIN)
        return successor


class Envelope:
    def __init__(self, raw, kind, most):
        need(len(raw) <= most, SIZE)
        file = mapping(parse(raw, 16, MALFORMED), MALFORMED)
        need("signed" in file and "signatures" in file, MALFORMED)
        need(set(mapping(file["signed"], MALFORMED)) == {"data"}, MALFORMED)
        self.payload = base64_bytes(file["signed"]["data"], MALFORMED)
        self.message, self.signatures = pae(kind, self.payload), {}
        need(len(listing(file["signatures"], MALFORMED)) <= 16, MALFORMED)
        for s in file["signatures"]:
            need(set(mapping(s, MALFORMED)) == {"keyid", "sig"}, MALFORMED)
            need(re.fullmatch("[0-9a-f]{64}", text(s["keyid"], MALFORMED)), MALFORMED)
            need(s["keyid"] not in self.signatures, MALFORMED)
            self.signatures[s["keyid"]] = base64_bytes(s["sig"], MALFORMED)
            need(len(self.signatures[s["keyid"]]) == 64, MALFORMED)
        self.mirrored = {n: v for n, v in file.items() if n not in ("signed", "signatures")}

    def met(self, role):
        keys, threshold = role
        return len({k for k in keys if signed(k, self.message, self.signatures.get(key_id(k), b""))}) >= threshold

    def document(self, required):
        value = mapping(parse(self.payload, 16, MALFORMED), MALFORMED)
        if "version" in value:
            need(re.fullmatch(r"0\.(0|[1-9]\d{0,3})", text(value["version"], MALFORMED), re.ASCII), SCHEMA)
        need(all(name in value for name in required), MALFORMED)
        need(jcs(value) == self.payload, MALFORMED, "not canonical")
        return value

    def check_mirrored(self, value):
        for name, copy in self.mirrored.items():
            need(name in value and jcs(copy) == jcs(value[name]), MIRRORED)


UNKNOWN = "[a-z][a-z0-9_]{0,63}"


def urls(value):
    for url in listing(value, MALFORMED):
        text(url, MALFORMED)


def check_urls(value):
    need(len(value) <= 16, POLICY)
    for url in value:
        need(len(url) <= 2048 and re.fullmatch("[!-~]*", url) and "#" not in url, POLICY)
        need(not re.search("%(?![0-9a-fA-F]{2})", url), POLICY, "escape")
        try:
            parts = urlsplit(url)
            need(parts.port is None or parts.port >= 0, POLICY)
        except ValueError:
            need(False, POLICY)
        need(parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc, POLICY)


def artifact(a):
    need(all(n in mapping(a, MALFORMED) for n in ("hash", "size", "urls")), MALFORMED)
    digest(a["hash"], MALFORMED)
    integer(a["size"], MALFORMED)
    urls(a["urls"])
    if "ipfs" in a:
        need(text(a["ipfs"], MALFORMED), MALFORMED)
    if "chunks" in a:
        digest(a["chunks"], MALFORMED)
    if "deltas" in a:
        need(listing(a["deltas"], MALFORMED), MALFORMED)
    for d in a.get("deltas", []):
        need(all(n in mapping(d, MALFORMED) for n in ("from", "hash", "size")), MALFORMED)
        digest(d["from"], MALFORMED)
        digest(d["hash"], MALFORMED)
        integer(d["size"], MALFORMED)
        unknown(d, ("from", "hash", "size"), UNKNOWN)
    if "verity" in a:
        v = mapping(a["verity"], MALFORMED)
        need("root" in v and "data_size" in v, MALFORMED)
        digest(v["root"], MALFORMED)
        integer(v["data_size"], MALFORMED)
        need("salt" not in v or 1 <= len(hexadecimal(v["salt"], MALFORMED)) <= 32, MALFORMED)
        unknown(v, ("root", "data_size", "salt"), UNKNOWN)
    unknown(a, ("hash", "size", "urls", "ipfs", "chunks", "deltas", "verity"), UNKNOWN)


def tree_size(data):
    size, blocks = 0, data // 4096
    while blocks > 1:
        blocks = (blocks + 127) // 128
        size += blocks * 4096
    return size


def check_artifact(a, most, tree=False):
    need(1 <= a["size"] <= most, POLICY)
    need("ipfs" not in a or re.fullmatch("[A-Za-z0-9]{1,128}", a["ipfs"]), POLICY)
    check_urls(a["urls"])
    need(a.get("chunks") != a["hash"], POLICY)
    deltas = a.get("deltas", [])
    need(len(deltas) <= 8 and len({d["from"] for d in deltas}) == len(deltas), POLICY)
    for d in deltas:
        need(d["from"] != a["hash"] and d["hash"] not in (a["hash"], d["from"], a.get("chunks")), POLICY)
        need(1 <= d["size"] <= a["size"], POLICY)
    if "verity" in a:
        data = a["verity"]["data_size"]
        need(tree and data >= 4096 and data % 4096 == 0 and data + tree_size(data) == a["size"], POLICY)


def check_cmdline(line):
    need(len(line) <= 2048 and re.fullmatch("[ -~]*", line), POLICY)
    for word in line.split(" "):
        word = word.strip('"').replace("-", "_")
        need(not word.startswith(("init=", "rdinit=", "lockdown=", "module.sig_enforce=")), POLICY)


def check_want(value, want):
    for name, code in (("channel", CHANNEL), ("arch", ARCH)):
        need(want[name] in ("*", value[name]), code)


def check_names(value, days):
    need(value["channel"] in ("stable", "testing", "nightly") and value["arch"] in ("x86_64", "arm64"), POLICY)
    made, end = moment(value["created_at"], MALFORMED), moment(value["expires_at"], MALFORMED)
    need(made < end and end - made <= days * DAY, POLICY)


def check_expiry(value, root, now):
    need(now < moment(value["expires_at"], MALFORMED) and now < root.expires, EXPIRED)
    need(moment(value["created_at"], MALFORMED) < root.expires, EXPIRED)


def check_future(value, now):
    need(moment(value["created_at"], MALFORMED) <= now + datetime.timedelta(minutes=10), FUTURE)


def pointer(raw, root, want, now):
    e = Envelope(raw, "application/vnd.phase.boot-pointer.v0.1+json", 2048)
    need(e.met(root.roles["timestamp"]), SIGNATURE)
    names = ("version", "product", "channel", "arch", "manifest_version", "manifest_hash", "manifest_size",
             "root_version", "created_at", "expires_at", "urls")
    v = e.document(names)
    for name in ("product", "channel", "arch"):
        text(v[name], MALFORMED)
    for name in ("manifest_version", "manifest_size", "root_version"):
        integer(v[name], MALFORMED)
    digest(v["manifest_hash"], MALFORMED)
    for name in ("created_at", "expires_at"):
        moment(v[name], MALFORMED)
    urls(v["urls"])
    unknown(v, names, UNKNOWN)
    need(v["manifest_version"] >= 1 and v["root_version"] >= 1, MALFORMED)
    e.check_mirrored(v)
    need(v["product"] == "phase-boot", PRODUCT)
    check_want(v, want)
    need(v["root_version"] <= root.version, ROOT_VERSION)
    check_expiry(v, root, now)
    check_future(v, now)
    check_names(v, 14)
    need(1 <= v["manifest_size"] <= 65536, POLICY)
    check_urls(v["urls"])
    return v


def read_manifest(e):
    names = ("version", "manifest_version", "channel", "arch", "created_at", "expires_at", "artifacts")
    v = e.document(names)
    for name in ("product", "cmdline"):
        need(name not in v or text(v[name], MALFORMED), MALFORMED)
    for name in ("channel", "arch"):
        text(v[name], MALFORMED)
    for name in ("created_at", "expires_at"):
        moment(v[name], MALFORMED)
    parts = mapping(v["artifacts"], MALFORMED)
    need("kernel" in parts and "initramfs" in parts, MALFORMED)
    for name in ("kernel", "initramfs", "rootfs"):
        if name in parts:
            artifact(parts[name])
    need("dtbs" not in parts or mapping(parts["dtbs"], MALFORMED), MALFORMED)
    for a in parts.get("dtbs", {}).values():
        artifact(a)
    unknown(v, names + ("product", "cmdline", "security_floor"), UNKNOWN)
    unknown(parts, ("kernel", "initramfs", "rootfs", "dtbs"), UNKNOWN)
    need(integer(v["manifest_version"], MALFORMED) >= 1, MALFORMED)
    if "security_floor" in v:
        need(1 <= integer(v["security_floor"], MALFORMED) <= v["manifest_version"], MALFORMED)
    return v


def check_floor(v, payload, root, floor, kept):
    version, known = floor.get("manifest_version", 0), floor.get("digest")
    security, reset = floor.get("security_floor", 0), root.floors.get(v["channel"])
    if reset and floor.get("root_version", 0) < reset["root"]:
        version, known, security = reset["version"], None, min(security, reset["version"])
    need(kept or v["manifest_version"] >= version, ROLLBACK)
    need(v["manifest_version"] >= security, ROLLBACK)
    need(not kept or not reset or v["manifest_version"] >= reset["version"], ROLLBACK)
    other = known and known != "sha256:" + sha256(payload).hex()
    need(v["manifest_version"] != version or not other, SAME)


def check_manifest(v):
    check_names(v, 180)
    parts = v["artifacts"]
    for name in ("kernel", "initramfs"):
        check_artifact(parts[name], 536870912)
    if "rootfs" in parts:
        check_artifact(parts["rootfs"], 8589934592, tree=True)
    trees = parts.get("dtbs", {})
    need(len(trees) <= 64, POLICY)
    for name, a in trees.items():
        need(re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name), POLICY)
        check_artifact(a, 16777216)
    need(sum(a["size"] for a in trees.values()) <= 67108864, POLICY)
    check_cmdline(v.get("cmdline", ""))


def manifest(raw, root, want, now, floor, named=None, kept=False):
    """Judges a manifest up to step 14; named is a pointer that was verified."""
    e = Envelope(raw, "application/vnd.phase.boot-manifest.v0.1+json", 65536)
    by_targets = e.met(root.roles["targets"])
    by = {name for name, role in root.channels.items() if e.met(role)}
    need(by_targets or by, SIGNATURE)
    v = read_manifest(e)
    need(v["channel"] in by if v["channel"] in root.channels else by_targets, SIGNATURE)
    e.check_mirrored(v)
    need(v.get("product", "phase-boot") == "phase-boot", PRODUCT)
    check_want(v, want)
    check_floor(v, e.payload, root, floor, kept)
    if named:
        p = named()
        need(all(p[n] == v[n] for n in ("channel", "arch", "manifest_version")), POINTER)
        need(p["manifest_size"] == len(raw) and p["manifest_hash"] == "sha256:" + sha256(raw).hex(), POINTER)
    if not kept:
        check_expiry(v, root, now)
    check_future(v, now)
    check_manifest(v)
