// The console: shows what the admin listener tells, and changes nothing.
//
// Rules kept here:
// - Every text becomes a text node. Nothing is parsed as HTML.
// - The token is a variable of this script: it is in no storage, no cookie and no address.
// - While the page is hidden or paused, no stream is open.

"use strict";

const RETRY_MS = 2000;
const AUDIT_MS = 5000;
const GRAPH_POINTS = 120;

const byId = (id) => document.getElementById(id);
const headers = {};
let paused = false;
let stream = null;
let auditTimer = 0;
let policyShown = "";
const history = [];
const tables = new Map();

// Texts and tables.

function say(id, text, className) {
  const element = byId(id);
  const words = String(text);
  // A screen reader announces a status again with each change of its node.
  if (element.textContent !== words) element.textContent = words;
  if (className !== undefined) element.className = className;
}

function cell(value) {
  const element = document.createElement("td");
  const given = value !== null && typeof value === "object" ? value : { text: value };
  element.textContent = given.text === null || given.text === undefined ? "–" : String(given.text);
  element.className = given.className || "";
  return element;
}

const code = (text) => ({ text: text, className: "code" });
const word = (text) => ({ text: text, className: "code word" });
const number = (value) => ({ text: value, className: "number" });

function table(id, rows, leftOut, empty) {
  const content = JSON.stringify([rows, leftOut]);
  // A table that is the same is left alone: a reader may be in it.
  if (tables.get(id) === content) return;
  tables.set(id, content);
  const body = byId(id);
  const made = rows.map((row) => {
    const line = document.createElement("tr");
    line.append(...row.map(cell));
    return line;
  });
  const columns = body.parentElement.tHead.rows[0].cells.length;
  const note = leftOut ? "and " + leftOut + " more" : made.length ? "" : empty || "none";
  if (note) {
    const line = document.createElement("tr");
    const only = cell(note);
    only.colSpan = columns;
    line.append(only);
    made.push(line);
  }
  body.replaceChildren(...made);
}

function definitions(id, pairs) {
  byId(id).replaceChildren(...pairs.map(([term, text]) => {
    const pair = document.createElement("div");
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = term;
    value.textContent = text;
    pair.append(name, value);
    return pair;
  }));
}

const time = (text) => ({ text: text.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC"), className: "time" });

const shown = (number) => (number === null || number === undefined ? "–" : number);

// Requests.

async function ask(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options, headers: { ...headers, ...(options || {}).headers } });
  if (response.status === 401) {
    askForToken();
    throw new Error("the token is missing or wrong");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error || "status " + response.status);
  }
  return response;
}

const read = async (path, options) => (await ask(path, options)).json();

function askForToken() {
  say("connection", headers.Authorization ? "The token is wrong" : "The token is needed");
  delete headers.Authorization;
  paused = true;
  end();
  byId("main").hidden = true;
  byId("pause").hidden = true;
  byId("login").hidden = false;
  byId("token").focus();
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  headers.Authorization = "Bearer " + byId("token").value;
  byId("token").value = "";
  byId("login").hidden = true;
  byId("main").hidden = false;
  byId("pause").hidden = false;
  paused = false;
  begin();
});

// The stream of snapshots: fetch, since EventSource cannot send a token.

async function follow() {
  const own = new AbortController();
  stream = own;
  while (!own.signal.aborted) {
    try {
      const response = await ask("/console/events", { signal: own.signal });
      say("connection", "Live");
      readOthers();
      await readEvents(response.body.getReader());
    } catch (failure) {
      if (own.signal.aborted || paused) return;
      say("connection", "Not connected: " + failure.message);
    }
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

async function readEvents(reader) {
  const decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const events = held.split("\n\n");
    held = events.pop();
    // After a delay only the last one is of interest.
    if (events.length) show(JSON.parse(events.pop().slice("data: ".length)));
  }
}

function show(snapshot) {
  showHealth(snapshot);
  showTraffic(snapshot.traffic);
  say("in-flight", snapshot.in_flight);
  say("connections", snapshot.connections);
  say("core-connections", (snapshot.core_connections.busy || 0) + " / " + (snapshot.core_connections.idle || 0));
  table("refused-keys", snapshot.refused_keys.map((one) => [code(one.key_id), word(one.code), number(one.count)]),
    snapshot.refusals_left_out);
  const reload = snapshot.health.last_reload.at + snapshot.health.policy_sha256;
  if (reload !== policyShown) {
    policyShown = reload;
    showPolicy(snapshot.health).catch((failure) => say("connection", failure.message));
  }
}

function showHealth(snapshot) {
  const health = snapshot.health;
  const level = { ready: "good", degraded: "warn" }[health.status] || "bad";
  say("version", health.version);
  say("health-status", health.status, "status " + level);
  definitions("dependencies", [
    ["Core", snapshot.core || "responds"],
    ["Store of keys", snapshot.store || "responds"],
    ["Keys that end within 7 days", String(shown(snapshot.keys_ending_soon))],
  ]);
  const others = Object.entries(health.degraded).filter(([name]) => name !== "upstream" && name !== "store");
  const problems = [...health.reasons, ...others.map(([name, text]) => name + ": " + text), ...health.warnings];
  byId("problems").replaceChildren(...problems.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

function showTraffic(traffic) {
  const total = traffic.total;
  say("allowed-rate", shown(total.allowed_per_second));
  say("refused-rate", shown(total.refused_per_second));
  say("gateway-ms", shown(total.gateway_ms));
  say("core-ms", shown(total.core_ms));
  say("core-p95", shown(total.core_p95_ms));
  table("routes", traffic.routes.map((one) => [
    code(one.route || "(no route)"), ...[
      one.allowed_per_second, one.refused_per_second, one.allowed, one.refused, one.gateway_ms, one.core_ms, one.core_p95_ms,
    ].map(number),
  ]), traffic.routes_left_out, "no request yet");
  table("refusals", traffic.refusals.map((one) => [word(one.code), number(one.per_second), number(one.count)]));
  history.push([total.allowed_per_second || 0, total.refused_per_second || 0]);
  history.splice(0, history.length - GRAPH_POINTS);
  const highest = Math.max(1, ...history.flat());
  ["graph-allowed", "graph-refused"].forEach((id, which) => {
    const from = GRAPH_POINTS - history.length;
    byId(id).setAttribute("points", history.map((point, at) => from + at + "," + (29 - 28 * point[which] / highest)).join(" "));
  });
}

// Pages that are read once, or from time to time.

async function showPolicy(health) {
  const policy = await read("/console/policy");
  const reload = health.last_reload;
  definitions("policy", [
    ["SHA-256 in force", policy.sha256],
    ["Routes", String(policy.routes)],
    ["Last file tried", time(reload.at).text + (reload.success ? ", in force" : ", refused: " + reload.problems.join("; "))],
    ["SHA-256 before", policy.before || "none: this is the first since the start"],
  ]);
  const gains = (one) => [
    one.kind,
    one.opened.length ? "opens to " + one.opened.join(", ") : "",
    one.closed.length ? "closes to " + one.closed.join(", ") : "",
  ].filter(Boolean).join("; ");
  table("changes", [
    ...(policy.changes || []).map((one) => [code((one.widens ? "+ " : "") + one.request), gains(one)]),
    ...(policy.settings || []).map((one) => [code((one.widens ? "+ " : "") + one.path), one.old + " → " + one.new]),
  ], policy.changes_left_out);
}

async function showKeys() {
  const [keys, scopes] = await Promise.all([read("/console/keys"), read("/scopes")]);
  say("keys-summary", "End within 30 days: " + keys.ending_count + ". Never used: " + keys.unused_count + ". Read at " + time(keys.at).text
    + (keys.complete ? "" : " (of the first records that were read: there are more)")
    + (keys.unreadable ? ". Left out, because their records cannot be read: " + keys.unreadable : ""));
  table("keys-ending", keys.ending.map((one) => [code(one.key_id), one.owner, one.name, time(one.expires_at)]),
    keys.ending_count - keys.ending.length);
  table("keys-unused", keys.unused.map((one) => [code(one.key_id), one.owner, one.name, time(one.created_at)]),
    keys.unused_count - keys.unused.length);
  table("scopes-unused", scopes.keys.filter((one) => one.unused.length)
    .map((one) => [code(one.key_id), one.owner, code(one.unused.join(" "))]), scopes.left_out);
}

async function showAudit() {
  try {
    const audit = await read("/console/audit");
    say("audit-problem", "");
    table("audit", audit.entries.map((one) => [time(one.at), word(one.kind), one.by || one.replica || "", code(one.key_id || ""), more(one)]));
  } catch (failure) {
    say("audit-problem", "The audit stream cannot be read: " + failure.message);
  }
}

function more(entry) {
  const words = [entry.owner, entry.route, entry.code, entry.count > 1 ? entry.count + " times" : "", entry.client,
    entry.reason, entry.policy_sha256 ? "policy " + entry.policy_sha256.slice(0, 12) : "", entry.version,
    ...(entry.problems || [])];
  return words.filter(Boolean).join(", ");
}

byId("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const caller = byId("explain-caller").value.trim();
  const asked = { method: byId("explain-method").value, path: byId("explain-path").value };
  if (caller.startsWith("api_key_")) asked.key_id = caller;
  else if (caller) asked.scopes = caller.split(/[\s,]+/);
  try {
    const found = await read("/explain", { method: "POST", body: JSON.stringify(asked), headers: { "Content-Type": "application/json" } });
    say("explained-route", found.route ? "Route " + found.route.name + ", line " + found.route.line : "No route");
    table("explained", found.verdicts.map((one) => [callerName(one.caller), decision(one)]));
  } catch (failure) {
    say("explained-route", failure.message);
    table("explained", []);
  }
});

function callerName(caller) {
  const scopes = caller.scopes ? " with " + (caller.scopes.join(" ") || "no scope") : "";
  return caller.kind + (caller.id ? " " + caller.id + " of " + caller.owner + ", " + caller.state : "") + scopes;
}

function decision(verdict) {
  if (verdict.decision === "allow") {
    return "allowed, stamp: " + verdict.stamp + (verdict.would_deny ? ", later refused with " + verdict.would_deny : "");
  }
  return "refused: " + verdict.answer.status + " " + verdict.answer.code + ": " + verdict.answer.message;
}

// Begin, pause, hide.

function begin() {
  end();
  if (paused || document.hidden) return;
  follow();
}

// Only once the stream is open: until then it is not known whether a token is needed.
function readOthers() {
  clearInterval(auditTimer);
  auditTimer = setInterval(showAudit, AUDIT_MS);
  showAudit();
  showKeys().catch((failure) => say("keys-summary", "The keys cannot be read: " + failure.message));
}

function end() {
  if (stream) stream.abort();
  stream = null;
  clearInterval(auditTimer);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  say("connection", paused ? "Paused" : "Connecting");
  begin();
});
byId("read-keys").addEventListener("click", () => {
  showKeys().catch((failure) => say("keys-summary", "The keys cannot be read: " + failure.message));
});
document.addEventListener("visibilitychange", begin);
begin();
