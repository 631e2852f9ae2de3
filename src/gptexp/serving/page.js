"use strict";

// The server's description of its model: see ServedModel.describe.
const model = JSON.parse(document.getElementById("model").textContent);
const details = model.gptexp;
const $ = (id) => document.getElementById(id);
const TOP_TOKENS = 5;
const MAX_IMAGE_BYTES = 10 * 1024 * 1024;
let conversation = []; // messages of the chat so far
let request = null; // AbortController of the request that is being answered

// ---- tokens: each is a span with its probability ----

class Answer {
  // Text that arrives in parts, and the tokens that it consists of.
  constructor(box, prompt = "") {
    this.box = box;
    this.text = [];
    this.tokens = [];
    this.spans = [];
    this.reason = null;
    if (prompt) box.append(element("span", prompt, "prompt"));
    this.tail = box.appendChild(document.createTextNode(""));
  }

  get string() { return this.text.join(""); }

  add(text, scores) {
    this.text.push(...text);
    for (const score of scores) {
      this.tokens.push(score);
      this.spans.push(this.tokenSpan(score, this.tokens.length - 1));
    }
    // A span reaches to where the next token begins; the last one may still grow.
    const first = Math.max(0, this.spans.length - scores.length - 2);
    for (let i = first; i < this.spans.length; i++) {
      const end = i + 1 < this.tokens.length ? this.tokens[i + 1].offset : this.text.length;
      this.spans[i].textContent = this.text.slice(this.tokens[i].offset, end).join("");
    }
    if (!this.tokens.length) this.tail.data = this.string;
  }

  tokenSpan(score, index) {
    const span = element("span");
    span.dataset.token = index;
    const doubt = Math.min(1, -score.logprob / 5);
    span.style.setProperty("--doubt", doubt.toFixed(2));
    this.box.insertBefore(span, this.tail);
    return span;
  }
}

function textScores(logprobs) {
  if (!logprobs) return [];
  return logprobs.tokens.map((token, i) => ({
    token,
    logprob: logprobs.token_logprobs[i],
    offset: logprobs.text_offset[i],
    top: Object.entries(logprobs.top_logprobs[i] || {}),
  }));
}

function chatScores(logprobs) {
  if (!logprobs) return [];
  return logprobs.content.map((entry) => ({
    token: entry.token,
    logprob: entry.logprob,
    offset: entry.text_offset,
    top: entry.top_logprobs.map((likely) => [likely.token, likely.logprob]),
  }));
}

function element(name, text = "", className = "") {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  if (className) node.className = className;
  return node;
}

// ---- the card of a token: by pointer, or by arrow keys ----

let current = null; // the span that the card belongs to
const owners = new WeakMap(); // box of tokens -> Answer

function showToken(span) {
  hideToken();
  const answer = owners.get(span.closest(".tokens"));
  const score = answer?.tokens[Number(span.dataset.token)];
  if (!score) return;
  current = span;
  span.classList.add("current");
  const card = $("token");
  const entries = new Map(score.top);
  if (!entries.has(score.token)) entries.set(score.token, score.logprob);
  const list = element("ol");
  for (const [token, logprob] of [...entries].sort((a, b) => b[1] - a[1])) {
    const item = element("li", "", token === score.token ? "chosen" : "");
    const bar = element("span", "", "bar");
    bar.style.width = `${Math.max(1, 100 * Math.exp(logprob))}%`;
    item.append(element("code", visible(token)), bar, element("span", percent(logprob)));
    list.append(item);
  }
  const title = `${visible(score.token)}: probability ${percent(score.logprob)}`;
  card.replaceChildren(element("p", title), list);
  card.hidden = false;
  const frame = card.offsetParent.getBoundingClientRect();
  const [place] = span.getClientRects();
  const at = place || span.getBoundingClientRect();
  const left = Math.min(at.left - frame.left, frame.width - card.offsetWidth);
  card.style.left = `${Math.max(0, left)}px`;
  card.style.top = `${at.bottom - frame.top + 6}px`;
}

function hideToken() {
  current?.classList.remove("current");
  current = null;
  $("token").hidden = true;
}

const percent = (logprob) => {
  const value = 100 * Math.exp(logprob);
  return value < 0.1 ? "< 0.1 %" : `${value.toFixed(1)} %`;
};
const visible = (token) => token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣");

$("answers").addEventListener("pointerover", (event) => {
  const span = event.target.closest("[data-token]");
  if (span) showToken(span);
});
$("answers").addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse") hideToken();
});
document.addEventListener("pointerdown", (event) => {
  const span = event.target.closest?.("[data-token]");
  if (span) showToken(span); else hideToken();
});
$("answers").addEventListener("keydown", (event) => {
  const box = event.target.closest(".tokens");
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "Escape") hideToken();
  if (!box || !step) return;
  const spans = owners.get(box)?.spans.filter((span) => span.textContent) || [];
  const index = spans.indexOf(current);
  const next = spans[index < 0 ? (step > 0 ? 0 : spans.length - 1) : index + step];
  if (next) {
    showToken(next);
    $("status").textContent = $("token").firstChild.textContent;
  }
  event.preventDefault();
});
$("answers").addEventListener("focusout", hideToken);

// ---- requests ----

function options() {
  const values = {};
  for (const name of ["temperature", "top_p", "top_k", "max_tokens", "n", "seed"]) {
    const input = $(name);
    if (!input || input.value === "") continue;
    const { badInput, rangeUnderflow, rangeOverflow } = input.validity;
    if (badInput || rangeUnderflow || rangeOverflow) throw new Error(`${name}: ${input.validationMessage}`);
    values[name] = Number(input.value);
  }
  const stop = $("stop-text")?.value;
  if (stop) values.stop = [stop.replace(/\\n/g, "\n")];
  return values;
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: request.signal,
  });
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new Error(answer?.error?.message || `the server answers ${response.status}`);
}

async function* events(response) {
  // Server-sent events: "data: JSON", an empty line between two.
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function addAnswer(title, prompt = "") {
  const message = element("div", "", "message");
  const box = element("div", "", "tokens answering");
  if (title) message.append(element("p", title, "speaker"));
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", details.generates_tokens ? "answer; arrow keys go through its tokens" : "answer");
  message.append(box);
  $("answers").append(message);
  const answer = new Answer(box, prompt);
  owners.set(box, answer);
  return answer;
}

async function generate(path, body, makeAnswer) {
  // Send a request, and show its answers while they arrive.
  const isChat = path.includes("chat");
  const scores = isChat ? { logprobs: true, top_logprobs: TOP_TOKENS } : { logprobs: TOP_TOKENS };
  const started = performance.now();
  const answers = [];
  const remarks = [];
  let usage = null;
  try {
    const response = await post(path, {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
      ...(details.generates_tokens ? scores : {}),
    });
    for await (const event of events(response)) {
      if (event.warnings) remarks.push(...event.warnings);
      if (event.seed !== undefined) remarks.push(`seed ${event.seed}`);
      usage = event.usage || usage;
      for (const choice of event.choices) {
        const answer = (answers[choice.index] ||= makeAnswer(choice.index));
        const text = isChat ? choice.delta.content : choice.text;
        answer.add(text || "", (isChat ? chatScores : textScores)(choice.logprobs));
        if (choice.finish_reason) {
          answer.reason = choice.finish_reason;
          answer.box.classList.remove("answering");
        }
      }
    }
  } finally {
    for (const answer of answers) answer?.box.classList.remove("answering");
  }
  const seconds = (performance.now() - started) / 1000;
  const tokens = usage?.completion_tokens || 0;
  const ends = new Set(answers.map((answer) => answer.reason));
  if (ends.has("length")) remarks.push("cut at its longest length");
  const speed = `${tokens} tokens in ${seconds.toFixed(1)} s, ${(tokens / seconds).toFixed(0)} a second`;
  $("status").textContent = [speed, ...remarks].join(" · ");
  return answers;
}

async function answerText() {
  const prompt = $("prompt").value;
  if (!prompt.trim()) throw new Error("The prompt is empty: write one, and try again.");
  $("answers").replaceChildren();
  const values = options();
  const echo = details.continues_text ? prompt : "";
  const count = values.n || 1;
  await generate("/v1/completions", { prompt, ...values }, (index) =>
    addAnswer(count > 1 ? `Answer ${index + 1}` : "", echo));
}

async function answerChat() {
  const text = $("prompt").value;
  if (!text.trim()) throw new Error("The message is empty: write one, and try again.");
  const values = options();
  delete values.n;
  const system = $("system")?.value.trim();
  const before = system ? [{ role: "system", content: system }] : [];
  const message = { role: "user", content: text };
  const question = element("div", "", "message");
  question.append(element("p", "You", "speaker"), element("div", text, "tokens"));
  $("answers").append(question);
  const messages = conversation; // a new conversation may begin before the answer ends
  let answer = null;
  let isComplete = false;
  try {
    await generate(
      "/v1/chat/completions",
      { messages: [...before, ...messages, message], ...values },
      () => (answer = addAnswer(model.id)),
    );
    isComplete = true;
  } finally {
    // The conversation has what the screen shows: an answer that was stopped counts as far as it came.
    if (isComplete || answer?.string) {
      messages.push(message, { role: "assistant", content: answer?.string || "" });
      $("prompt").value = "";
    } else {
      question.remove();
      answer?.box.parentElement.remove();
    }
  }
}

async function answerImage() {
  const url = $("picture").src;
  if (!url) throw new Error("There is no picture: choose one, and try again.");
  $("answers").replaceChildren();
  const content = [{ type: "image_url", image_url: { url } }];
  const values = options();
  await generate(
    "/v1/chat/completions",
    { messages: [{ role: "user", content }], ...values },
    (index) => addAnswer((values.n || 1) > 1 ? `Caption ${index + 1}` : ""),
  );
}

async function answerSpeech() {
  const input = $("prompt").value;
  if (!input.trim()) throw new Error("There is no text to speak: write one, and try again.");
  const started = performance.now();
  const body = $("voice") ? { input, voice: $("voice").value } : { input };
  const response = await post("/v1/audio/speech", body);
  const url = URL.createObjectURL(await response.blob());
  const audio = element("audio");
  audio.controls = true;
  audio.src = url;
  const link = element("a", "Save speech.wav");
  link.href = url;
  link.download = "speech.wav";
  $("answers").replaceChildren(audio, link);
  $("status").textContent = `spoken in ${((performance.now() - started) / 1000).toFixed(1)} s`;
}

const isChatting = () => document.body.classList.contains("chatting");

async function ask() {
  if (request) return;
  const answer = { image: answerImage, speech: answerSpeech }[details.input] || answerText;
  request = new AbortController();
  hideToken();
  $("error").hidden = true;
  $("status").textContent = "";
  $("send").disabled = true;
  $("stop").hidden = false;
  try {
    await (isChatting() ? answerChat : answer)();
  } catch (error) {
    if (error.name === "AbortError") {
      $("status").textContent = "stopped";
    } else {
      const isUnreachable = error instanceof TypeError;
      $("error").textContent = isUnreachable ? "The server does not answer: is it still running?" : error.message;
      $("error").hidden = false;
    }
  } finally {
    request = null;
    $("send").disabled = false;
    $("stop").hidden = true;
  }
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("stop").addEventListener("click", () => request?.abort());
$("prompt")?.addEventListener("keydown", (event) => {
  const sends = event.key === "Enter" && (event.ctrlKey || event.metaKey || (isChatting() && !event.shiftKey));
  if (sends && !event.isComposing) { event.preventDefault(); ask(); }
});
$("example")?.addEventListener("click", () => { $("prompt").value = details.example; $("prompt").focus(); });
$("shade")?.addEventListener("change", () => $("answers").classList.toggle("shaded", $("shade").checked));
$("answers").classList.add("shaded");

// ---- text or chat ----

function switchMode(chats) {
  document.body.classList.toggle("chatting", chats);
  $("chat-mode").setAttribute("aria-pressed", String(chats));
  $("text-mode").setAttribute("aria-pressed", String(!chats));
  $("prompt-label").textContent = chats ? "Message" : "Prompt";
  $("send").textContent = chats ? "Send" : "Generate";
  $("clear").hidden = !chats;
  const talk = $("ask").parentElement; // a conversation grows above the next message
  if (chats) talk.append($("ask")); else talk.insertBefore($("ask"), talk.querySelector(".output"));
  clear();
}

function clear() {
  request?.abort();
  conversation = [];
  hideToken();
  $("answers").replaceChildren();
  $("status").textContent = "";
  $("error").hidden = true;
}

$("chat-mode")?.addEventListener("click", () => switchMode(true));
$("text-mode")?.addEventListener("click", () => switchMode(false));
$("clear").addEventListener("click", clear);
if (details.chat === "template" && !details.continues_text) switchMode(true);

// ---- a picture: chosen, dropped or pasted ----

function usePicture(file) {
  if (!file || !file.type.startsWith("image/")) return;
  if (file.size > MAX_IMAGE_BYTES) {
    $("error").textContent = "The picture has more than 10 MB: choose a smaller one.";
    $("error").hidden = false;
    return;
  }
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    $("picture").src = reader.result;
    $("picture").hidden = false;
  });
  reader.readAsDataURL(file);
}

if (details.input === "image") {
  const drop = $("drop");
  $("file").addEventListener("change", () => usePicture($("file").files[0]));
  document.addEventListener("paste", (event) => usePicture(event.clipboardData.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") usePicture(event.dataTransfer.files[0]);
    });
  }
}

for (const code of document.querySelectorAll("pre.command code")) {
  code.textContent = code.textContent.replaceAll("{url}", location.origin);
}
if (matchMedia("(max-width: 48rem)").matches && $("options")) $("options").open = false;
