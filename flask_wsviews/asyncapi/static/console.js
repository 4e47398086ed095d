// The console: connects to a route, sends messages, and shows the frames in both directions.

import { follow } from "./parsed.js";
import { sample } from "./sample.js";

const MOST_LINES = 500;
const LONGEST = 20_000;

const CLOSE_CODES = {
  1000: "normal closure",
  1001: "going away",
  1002: "protocol error",
  1003: "unsupported data",
  1005: "no code given",
  1006: "connection lost, no close frame",
  1007: "invalid data",
  1008: "policy violation",
  1009: "message too big",
  1010: "an extension is missing",
  1011: "internal error",
  1012: "service restart",
  1013: "try again later",
  1014: "bad gateway",
};

const get = (id) => document.getElementById(id);

let spec;
let root;
let channel;
let socket = null;
let refs = 0;

export function startConsole(document_, scriptRoot) {
  spec = document_;
  root = scriptRoot;
  const routes = Object.entries(spec.channels).map(([name, one]) => [name, one.address]);
  fill(get("channel"), routes);
  get("channel").addEventListener("change", selectChannel);
  get("message").addEventListener("change", showExample);
  get("example").addEventListener("click", showExample);
  get("mode").addEventListener("change", check);
  get("editor").addEventListener("input", check);
  get("editor").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      get("sending").requestSubmit();
    }
  });
  get("connection").addEventListener("submit", connect);
  get("connection").addEventListener("input", showAddress);
  get("disconnect").addEventListener("click", () => socket?.close(1000));
  get("sending").addEventListener("submit", send);
  get("clear").addEventListener("click", () => get("log").replaceChildren());
  get("filter").addEventListener("input", filterAll);
  if (routes.length) {
    selectChannel();
  }
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
}

// -- the connection

function selectChannel() {
  channel = spec.channels[get("channel").value];
  get("about").textContent = channel.summary ?? "";
  const variables = Object.entries(channel.parameters ?? {}).map(([name, parameter]) =>
    field("path", name, parameter.enum, parameter.examples?.[0] ?? "", parameter.description),
  );
  const query = channel.bindings?.ws?.query ?? {};
  const fields = Object.entries(query.properties ?? {}).map(([name, schema]) => {
    const isRequired = query.required?.includes(name);
    const value = isRequired ? String(sample(schema, spec)) : "";
    return field("query", name, schema.enum, value, schema.description ?? "query", isRequired);
  });
  get("variables").replaceChildren(...variables.flat(), ...fields.flat());
  fill(get("message"), receivedMessages());
  showAddress();
  showExample();
}

function field(kind, name, choices, value, about, isRequired = kind === "path") {
  const id = `${kind}-${name}`;
  const label = document.createElement("label");
  label.htmlFor = id;
  label.textContent = name;
  const hint = document.createElement("span");
  hint.className = "hint";
  hint.textContent = about ? ` ${about}` : "";
  label.append(hint);
  const input = document.createElement(choices ? "select" : "input");
  if (choices) {
    fill(input, [...(isRequired ? [] : [["", ""]]), ...choices.map((one) => [one, one])]);
  } else {
    input.value = value;
    input.spellcheck = false;
  }
  Object.assign(input, { id, required: isRequired });
  Object.assign(input.dataset, { kind, name });
  return [label, input];
}

function url() {
  const query = new URLSearchParams();
  let path = channel.address;
  for (const input of get("variables").querySelectorAll("[data-kind]")) {
    const { kind, name } = input.dataset;
    if (kind === "path") {
      // A path variable may contain slashes. Other variables never match one.
      const value = input.value.split("/").map(encodeURIComponent).join("/");
      path = path.replace(`{${name}}`, () => value);
    } else if (input.value) {
      query.append(name, input.value);
    }
  }
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const search = query.size ? `?${query}` : "";
  return `${scheme}//${location.host}${root}${path}${search}`;
}

function showAddress() {
  get("address").textContent = url();
}

function connect(event) {
  event.preventDefault();
  const subprotocols = get("subprotocols").value.split(",").map((name) => name.trim()).filter(Boolean);
  const started = performance.now();
  try {
    socket = new WebSocket(url(), subprotocols);
  } catch (error) {
    line("failed", "can't connect", error.message);
    return;
  }
  socket.binaryType = "arraybuffer";
  const mine = socket;
  setState("connecting");
  mine.addEventListener("open", () => {
    const chosen = mine.protocol ? `subprotocol ${mine.protocol}` : "";
    line("note", `connected in ${Math.round(performance.now() - started)} ms`, `${mine.url} ${chosen}`.trim());
    setState("connected");
  });
  mine.addEventListener("message", ({ data }) => frame("got", data));
  mine.addEventListener("close", ({ code, reason }) => {
    const meaning = CLOSE_CODES[code] ?? "application-defined";
    line(code === 1000 ? "note" : "failed", `closed: ${code}`, `${reason || meaning}`);
    setState(`closed: ${code} ${meaning}`);
  });
}

function setState(text) {
  const isOpen = text === "connected";
  const isBusy = isOpen || text === "connecting";
  get("state").textContent = text;
  get("connect").disabled = isBusy;
  get("disconnect").disabled = !isBusy;
  get("send").disabled = !isOpen;
  for (const id of ["channel", "subprotocols"]) {
    get(id).disabled = isBusy;
  }
}

// -- messages

function receivedMessages() {
  const pointer = `#/channels/${get("channel").value}`;
  return Object.values(spec.operations)
    .filter((operation) => operation.action === "receive" && operation.channel.$ref === pointer)
    .flatMap((operation) => operation.messages)
    .map(({ $ref }) => [$ref, follow(spec, follow(spec, $ref).$ref).name]);
}

function showExample() {
  const pointer = get("message").value;
  if (!pointer) {
    return;
  }
  const message = follow(spec, follow(spec, pointer).$ref);
  const isJson = message.contentType === "application/json";
  const isBinary = message.contentType === "application/octet-stream";
  get("mode").value = isJson ? "json" : isBinary ? "hex" : "text";
  let content = isBinary ? "00 ff" : "hello";
  if (isJson) {
    const value = sample(message.payload, spec);
    if (value && typeof value === "object" && "ref" in value && message.payload.properties?.ref) {
      refs += 1;
      value.ref = refs;
    }
    content = JSON.stringify(value, null, 2);
  }
  get("editor").value = content;
  check();
}

function content() {
  const text = get("editor").value;
  switch (get("mode").value) {
    case "json":
      return JSON.stringify(JSON.parse(text));
    case "hex": {
      const digits = text.replace(/\s+/g, "");
      if (!/^([0-9a-f]{2})*$/i.test(digits)) {
        throw new Error("hex digits come in pairs");
      }
      return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    }
    case "base64":
      return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
    default:
      return text;
  }
}

function check() {
  try {
    content();
    get("invalid").textContent = "";
    return true;
  } catch (error) {
    get("invalid").textContent = error.message;
    return false;
  }
}

function send(event) {
  event.preventDefault();
  if (socket?.readyState === WebSocket.OPEN && check()) {
    const data = content();
    socket.send(data);
    frame("sent", typeof data === "string" ? data : data.buffer);
  }
}

// -- the log

function frame(kind, data) {
  const isText = typeof data === "string";
  const size = isText ? new TextEncoder().encode(data).length : data.byteLength;
  const label = kind === "sent" ? "↑ sent" : "↓ received";
  line(kind, label, isText ? pretty(data) : hex(data), `${isText ? "text" : "binary"}, ${size} B`);
}

function pretty(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function line(kind, label, body, detail = "") {
  const item = document.createElement("li");
  item.className = kind;
  const meta = document.createElement("div");
  meta.className = "meta";
  const time = document.createElement("time");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = `${now.toLocaleTimeString([], { hour12: false })}.${String(now.getMilliseconds()).padStart(3, "0")}`;
  const what = document.createElement("b");
  what.textContent = label;
  const more = document.createElement("span");
  more.textContent = detail;
  meta.append(time, what, more);
  item.append(meta);
  if (body) {
    const pre = document.createElement("pre");
    pre.textContent = body.length > LONGEST ? `${body.slice(0, LONGEST)} …` : body;
    item.append(pre);
  }
  const log = get("log");
  const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
  log.append(item);
  while (log.childElementCount > MOST_LINES) {
    log.firstElementChild.remove();
  }
  filter(item);
  if (isAtEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function filter(item) {
  const wanted = get("filter").value.toLowerCase();
  item.hidden = Boolean(wanted) && !item.textContent.toLowerCase().includes(wanted);
}

function filterAll() {
  for (const item of get("log").children) {
    filter(item);
  }
}
