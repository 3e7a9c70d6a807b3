"""What all documents have in common: docs/spec/documents.md, and nothing else.

A second reader, slow and plain: it does what the specifications say, with Python's
standard library alone, and shares no code with the first.
"""

import base64
import datetime
import hashlib
import re

LARGEST = 2**53 - 1


class Refused(Exception):
    """A document breaks a rule; the argument is its code."""

    @property
    def code(self):
        return self.args[0]


def need(condition, code, why=""):
    if not condition:
        raise Refused(code, why)


class Strict:
    """Reads one JSON document, strictly."""

    ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
    NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")
    LOW = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")

    def __init__(self, raw, depth, code, null=False):
        self.code, self.depth, self.null, self.at = code, depth, null, 0
        try:
            self.text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(code, "not UTF-8") from None

    def document(self):
        self.space()
        value = self.value(0)
        self.space()
        self.want(self.at == len(self.text), "bytes after the document")
        return value

    def want(self, condition, why="not JSON"):
        need(condition, self.code, why)

    def space(self):
        while self.peek() and self.peek() in " \t\r\n":
            self.at += 1

    def peek(self):
        return self.text[self.at:self.at + 1]

    def take(self, token):
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def value(self, depth):
        if self.peek() == "{":
            return self.object(depth + 1)
        if self.peek() == "[":
            return self.array(depth + 1)
        if self.peek() == '"':
            return self.string()
        for token, value in (("true", True), ("false", False)):
            if self.take(token):
                return value
        if self.take("null"):
            self.want(self.null, "null")
            return None
        return self.number()

    def number(self):
        found = self.NUMBER.match(self.text, self.at)
        self.want(found)
        self.at = found.end()
        self.want(self.peek() not in (".", "e", "E") and found[0] != "-0", "no plain integer")
        self.want(abs(int(found[0])) <= LARGEST, "too large")
        return int(found[0])

    def object(self, depth):
        self.want(depth <= self.depth, "too deep")
        self.take("{")
        members = {}
        self.space()
        while not self.take("}"):
            self.want(not members or self.take(","))
            self.space()
            self.want(self.peek() == '"')
            name = self.string()
            self.want(name not in members, "a name twice")
            self.space()
            self.want(self.take(":"))
            self.space()
            members[name] = self.value(depth)
            self.space()
        return members

    def array(self, depth):
        self.want(depth <= self.depth, "too deep")
        self.take("[")
        values = []
        self.space()
        while not self.take("]"):
            self.want(not values or self.take(","))
            self.space()
            values.append(self.value(depth))
            self.space()
        return values

    def string(self):
        self.take('"')
        out = []
        while not self.take('"'):
            c = self.peek()
            self.want(c and ord(c) >= 0x20)
            self.at += 1
            out.append(self.escape() if c == "\\" else c)
        return "".join(out)

    def escape(self):
        c = self.peek()
        self.at += 1
        if c != "u":
            self.want(c in self.ESCAPES and c)
            return self.ESCAPES[c]
        digits = self.text[self.at:self.at + 4]
        self.want(re.fullmatch("[0-9a-fA-F]{4}", digits))
        self.at += 4
        point = int(digits, 16)
        if 0xD800 <= point < 0xDC00:
            low = self.LOW.match(self.text, self.at)
            self.want(low, "a lone surrogate")
            self.at = low.end()
            return chr(0x10000 + ((point - 0xD800) << 10) + int(low[1], 16) - 0xDC00)
        self.want(not 0xDC00 <= point < 0xE000, "a lone surrogate")
        return chr(point)


def parse(raw, depth, code, null=False):
    return Strict(raw, depth, code, null).document()


def write(value, string, order):
    """One of the two canonical forms."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list):
        return "[" + ",".join(write(v, string, order) for v in value) + "]"
    names = sorted(value, key=order)
    return "{" + ",".join(string(n) + ":" + write(value[n], string, order) for n in names) + "}"


def jcs(value):
    """RFC 8785."""
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

    def string(text):
        return '"' + "".join(short.get(c) or ("\\u%04x" % ord(c) if c < " " else c) for c in text) + '"'

    return write(value, string, lambda name: name.encode("utf-16-be")).encode()


def sha256(data):
    return hashlib.sha256(data).digest()


def text(value, code):
    need(isinstance(value, str), code, "no text")
    return value


def integer(value, code):
    need(isinstance(value, int) and not isinstance(value, bool), code, "no number")
    return value


def mapping(value, code):
    need(isinstance(value, dict), code, "no object")
    return value


def listing(value, code):
    need(isinstance(value, list), code, "no list")
    return value


def members(value, required, optional, code):
    """An object without unknown members."""
    names = set(mapping(value, code))
    need(names >= set(required) and names <= set(required) | set(optional), code, "members")
    return value


def base64_bytes(value, code):
    need(re.fullmatch("[A-Za-z0-9+/]*={0,2}", text(value, code)) and len(value) % 4 == 0, code, "base64")
    raw = base64.b64decode(value)
    need(base64.b64encode(raw).decode() == value, code, "base64")
    return raw


def hexadecimal(value, code):
    need(len(text(value, code)) % 2 == 0 and re.fullmatch("[0-9a-f]*", value), code, "hexadecimal")
    return bytes.fromhex(value)


def digest(value, code):
    need(re.fullmatch("sha256:[0-9a-f]{64}", text(value, code)), code, "digest")
    need(value != "sha256:" + "0" * 64, code, "a digest of zeros")
    return bytes.fromhex(value[7:])


def moment(value, code):
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text(value, code), re.ASCII), code, "time")
    try:
        at = datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise Refused(code, "time") from None
    need(2000 <= at.year <= 2999, code, "year")
    return at


# Ed25519, RFC 8032, sections 5.1.3 and 5.1.7.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * ROOT % P
    if (v * x * x - u) % P or x == 0 and sign:
        return None
    x = P - x if x % 2 != sign else x
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(n, p):
    q = (0, 1, 1, 0)
    while n:
        q = add(q, p) if n & 1 else q
        p, n = add(p, p), n >> 1
    return q


def encode(p):
    inverse = pow(p[2], -1, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = point(bytes.fromhex("58" + "66" * 31))
NEUTRAL = encode((0, 1, 1, 0))


def usable(key):
    """Not of small order, and written in the one way."""
    p = point(key) if len(key) == 32 else None
    return p is not None and encode(multiply(8, p)) != NEUTRAL


def signed(key, message, signature, known={}):
    if len(signature) != 64:
        return False
    if (key, message, signature) not in known:
        a, s = point(key), int.from_bytes(signature[32:], "little")
        h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
        ok = a is not None and s < ORDER
        if ok:
            minus = (P - a[0], a[1], 1, P - a[3])
            ok = encode(add(multiply(s, BASE), multiply(h, minus))) == signature[:32]
        known[key, message, signature] = ok
    return known[key, message, signature]


def key_id(key):
    form = '{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}'
    return sha256((form % key.hex()).encode()).hex()


def public_key(value, code):
    need(re.fullmatch("ed25519:[0-9a-f]{64}", text(value, code)), code, "key")
    key = bytes.fromhex(value[8:])
    need(usable(key), code, "weak key")
    return key


def pae(kind, payload):
    return b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(payload)) + payload


def open_dsse(raw, kind, key, most, malformed, unsigned, large=None):
    """The payload of a DSSE envelope that key has signed."""
    need(len(raw) <= most, large or malformed, "size")
    e = members(parse(raw, 4, malformed), ["payload", "payloadType", "signatures"], [], malformed)
    need(e["payloadType"] == kind, malformed, "payload type")
    payload = base64_bytes(e["payload"], malformed)
    need(len(listing(e["signatures"], malformed)) <= 16, malformed, "signatures")
    ok = False
    for s in e["signatures"]:
        members(s, ["sig"], ["keyid"], malformed)
        by = text(s.get("keyid", ""), malformed)
        ok |= by in ("", key_id(key)) and signed(key, pae(kind, payload), base64_bytes(s["sig"], malformed))
    need(ok, unsigned, "signature")
    return payload
