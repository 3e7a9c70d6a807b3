// Keeps the page up to date and runs the verifier. All text goes in as text: no
// markup is made out of strings, and the page's policy would not allow it.
"use strict";

const $ = (id) => document.getElementById(id);

// make gives an element with attributes and children.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- What changes ----

function cells(job) {
  const receipt = make("td", {});
  if (job.receipt) {
    receipt.append(make("a", { href: "/receipts/" + job.id }, "Receipt", make("span", { class: "hidden" }, " of " + job.short)));
  }
  return [
    make("th", { scope: "row" }, make("code", { title: job.id }, job.short)),
    make("td", { class: "state " + job.tone }, job.state),
    make("td", {}, job.from),
    make("td", {}, make("time", { datetime: job.at }, job.when)),
    make("td", {}, job.took),
    receipt,
  ];
}

// showJobs leaves rows that did not change as they are, with the focus in them.
function showJobs(body, jobs) {
  const old = new Map(Array.from(body.rows, (row) => [row.dataset.job, row]));
  let place = body.firstElementChild;
  for (const job of jobs) {
    const fresh = make("tr", { "data-job": job.id }, ...cells(job));
    let row = old.get(job.id);
    old.delete(job.id);
    if (row === undefined) {
      body.insertBefore(fresh, place);
      continue;
    }
    if (!row.isEqualNode(fresh) && !row.contains(document.activeElement)) row.replaceChildren(...fresh.childNodes);
    if (row === place) place = row.nextElementSibling;
    else body.insertBefore(row, place);
  }
  for (const row of old.values()) row.remove();
  $("no-jobs").hidden = jobs.length > 0;
}

function show(now) {
  for (const element of document.querySelectorAll("[data-live]")) {
    const text = now.texts[element.dataset.live];
    if (text !== undefined && element.textContent !== text) element.textContent = text;
  }
  document.title = "Node, " + now.texts.title + " – Phase";
  showJobs($("job-rows"), now.jobs);
}

function follow() {
  let stream;
  const say = (text) => { if ($("live").textContent !== text) $("live").textContent = text; };
  const open = () => {
    stream = new EventSource("/events");
    stream.onmessage = (event) => { say("Live."); show(JSON.parse(event.data)); };
    stream.onerror = () => {
      say("No connection to the node; what is shown may be old.");
      if (stream.readyState === EventSource.CLOSED) setTimeout(open, 10000); // refused: no room
    };
  };
  open();
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
}

// ---- The verifier: a program for WASI preview 1 ----

const ENOSYS = 52, EBADF = 8;
let compiled; // a promise of the module, once it is wanted

function load(url) {
  compiled ??= WebAssembly.compileStreaming(fetch(url));
  compiled.catch(() => { compiled = undefined; });
  return compiled;
}

// run gives the program input on stdin and returns what it writes to stdout. It has
// a clock, random numbers and nothing else of this machine.
async function run(module, input) {
  let memory, offset = 0, errors = "";
  const output = [], decoder = new TextDecoder();
  const view = () => new DataView(memory.buffer);
  const vectors = function* (list, count) {
    for (let i = 0; i < count; i++) {
      const at = view().getUint32(list + 8 * i, true), size = view().getUint32(list + 8 * i + 4, true);
      yield new Uint8Array(memory.buffer, at, size);
    }
  };
  const none = (count, size) => { view().setUint32(count, 0, true); view().setUint32(size, 0, true); return 0; };
  class Exit extends Error { constructor(status) { super("exit status " + status); this.status = status; } }
  const calls = {
    args_sizes_get: none, environ_sizes_get: none, args_get: () => 0, environ_get: () => 0,
    clock_time_get: (clock, precision, at) => {
      const ms = clock === 0 ? Date.now() : performance.now();
      view().setBigUint64(at, BigInt(Math.round(ms * 1e3)) * 1000n, true);
      return 0;
    },
    random_get: (at, size) => { crypto.getRandomValues(new Uint8Array(memory.buffer, at, size)); return 0; },
    sched_yield: () => 0,
    // Whoever waits here waits for a moment to pass: say that it has.
    poll_oneoff: (subscriptions, events, count, done) => {
      for (let i = 0; i < count; i++) {
        view().setBigUint64(events + 32 * i, view().getBigUint64(subscriptions + 48 * i, true), true);
        view().setUint16(events + 32 * i + 8, 0, true);
        view().setUint8(events + 32 * i + 10, view().getUint8(subscriptions + 48 * i + 8));
      }
      view().setUint32(done, count, true);
      return 0;
    },
    proc_exit: (status) => { throw new Exit(status); },
    fd_prestat_get: () => EBADF,
    fd_fdstat_get: (fd, at) => {
      if (fd > 2) return EBADF;
      new Uint8Array(memory.buffer, at, 24).fill(0);
      view().setUint8(at, 2); // a character device
      view().setBigUint64(at + 8, 0x42n, true); // that is read or written
      return 0;
    },
    fd_fdstat_set_flags: () => 0,
    fd_close: () => 0,
    fd_read: (fd, list, count, done) => {
      if (fd !== 0) return EBADF;
      let n = 0;
      for (const into of vectors(list, count)) {
        const part = input.subarray(offset, offset + into.length);
        into.set(part);
        offset += part.length;
        n += part.length;
      }
      view().setUint32(done, n, true);
      return 0;
    },
    fd_write: (fd, list, count, done) => {
      if (fd !== 1 && fd !== 2) return EBADF;
      let n = 0;
      for (const from of vectors(list, count)) {
        if (fd === 1) output.push(from.slice());
        else errors += decoder.decode(from);
        n += from.length;
      }
      view().setUint32(done, n, true);
      return 0;
    },
  };
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = calls[name] ?? (() => ENOSYS);
  }
  const instance = await WebAssembly.instantiate(module, imports);
  memory = instance.exports.memory;
  try {
    instance.exports._start();
  } catch (error) {
    if (!(error instanceof Exit) || error.status !== 0) throw new Error(errors || String(error));
  }
  return new TextDecoder().decode(await new Blob(output).arrayBuffer());
}

async function judge(question, url) {
  const input = new TextEncoder().encode(JSON.stringify(question));
  return JSON.parse(await run(await load(url), input));
}

function showVerdict(answer) {
  const place = $("verdict");
  const parts = [make("p", {}, make("strong", {}, answer.verdict), " " + answer.meaning)];
  if (answer.reason) parts.push(make("p", {}, answer.reason + (answer.code ? " [" + answer.code + "]" : "")));
  if (answer.hint) parts.push(make("p", { class: "note" }, answer.hint));
  if (answer.facts.length > 0) {
    const list = make("dl", { class: "facts" });
    for (const [name, value] of answer.facts) list.append(make("dt", {}, name), make("dd", {}, value));
    parts.push(list);
  }
  place.dataset.verdict = answer.verdict;
  place.replaceChildren(...parts);
}

function failed(text) {
  delete $("verdict").dataset.verdict;
  $("verdict").replaceChildren(make("p", {}, text));
}

// largest is more than any document may have, in bytes: the verifier says so.
const largest = 10 << 20;

async function readFile(file) {
  if (file.size > largest) throw new Error("This file is too large.");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error("This file is not text, so it is no receipt.");
  }
}

function offerVerifier(form) {
  const button = form.querySelector('button[type="submit"]');
  const warm = () => { load(form.dataset.verifier).catch(() => {}); };
  form.addEventListener("focusin", warm, { once: true });
  $("own-key").addEventListener("click", (event) => {
    $("key").value = event.currentTarget.dataset.key;
    $("key").focus();
  });
  $("file").addEventListener("change", async () => {
    const [file] = $("file").files;
    if (file === undefined) return;
    try {
      $("receipt").value = await readFile(file);
    } catch (error) {
      failed(error.message);
    }
  });
  let asked = 0; // what was changed meanwhile has not been judged
  form.addEventListener("input", () => { asked++; delete $("verdict").dataset.verdict; $("verdict").replaceChildren(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    const question = { receipt: $("receipt").value, key: $("key").value.trim(), job: $("job").value.trim() };
    const mine = ++asked;
    try {
      const answer = await judge(question, form.dataset.verifier);
      if (mine === asked) showVerdict(answer);
    } catch (error) {
      failed("The verifier could not be run: " + error.message);
    }
    button.removeAttribute("aria-busy");
  });
  form.hidden = false;
}

if ($("job-rows")) follow();
if ($("verify") && typeof WebAssembly === "object") offerVerifier($("verify"));
