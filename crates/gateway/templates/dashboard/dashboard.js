"use strict";

// Live updates of the overview and streams of the playground. Everything else is plain pages and forms.

const byId = (id) => document.getElementById(id);

// The overview: the server sends the part that has changed as it would stand in the page.
function live(now) {
  const pause = byId("pause");
  let paused = false;
  let latest = null;
  const show = (html) => {
    // Parsed, not run: what the server has escaped stays text.
    const parsed = new DOMParser().parseFromString(html, "text/html");
    for (const id of ["sentence", "tiles", "rows"]) {
      const [old, fresh] = [byId(id), parsed.getElementById(id)];
      if (!old || !fresh) continue;
      if (id === "sentence") {
        speak(old, fresh.textContent);
      } else if (old.contains(document.activeElement)) {
        // Whoever is in the table keeps their place.
        const focused = document.activeElement.getAttribute("href");
        const scrolled = old.querySelector(".scroll");
        const wasRegion = document.activeElement === scrolled;
        old.replaceChildren(...document.adoptNode(fresh).childNodes);
        const target = wasRegion ? old.querySelector(".scroll") : [...old.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused);
        (target || old.querySelector(".scroll")).focus({ preventScroll: true });
      } else {
        old.replaceChildren(...document.adoptNode(fresh).childNodes);
      }
    }
  };
  // A screen reader is not to be told every second.
  let spoken = Date.now();
  const speak = (element, text) => {
    if (Date.now() - spoken < 30000 || element.textContent === text) return;
    spoken = Date.now();
    element.textContent = text;
  };
  const events = new EventSource(now.dataset.live);
  // Whoever watches is told when nothing comes any more: old figures look like new ones.
  const link = byId("link");
  events.addEventListener("open", () => {
    link.hidden = true;
  });
  events.addEventListener("error", () => {
    const again = events.readyState === EventSource.CONNECTING ? "trying again" : "load the page again";
    link.textContent = `Not connected; ${again}. Figures are of ${new Date().toISOString().slice(11, 19)} UTC.`;
    link.hidden = false;
  });
  events.addEventListener("now", (event) => {
    latest = event.data;
    if (!paused) show(latest);
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on updating" : "Pause updates";
    if (!paused && latest) show(latest);
  });
}

// The playground: both answers as they come.
function playground(form) {
  const [send, stop, progress] = [byId("send"), byId("stop"), byId("progress")];
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    const byButton = document.activeElement === send;
    stop.hidden = false;
    if (byButton) stop.focus();
    send.disabled = true;
    progress.textContent = "Asking both models.";
    const done = await Promise.all(["left", "right"].map((side) => ask(form, side, running.signal)));
    running = null;
    send.disabled = false;
    if (document.activeElement === stop) send.focus();
    stop.hidden = true;
    progress.textContent = done.every(Boolean) ? "Both have answered." : "Not both have answered.";
  });
  stop.addEventListener("click", () => {
    if (running) running.abort();
  });
}

async function ask(form, side, signal) {
  const section = byId(side + "-answer");
  const part = (name) => section.querySelector(`[data-part="${name}"]`);
  const put = (name, text) => {
    const element = part(name);
    if (element) element.textContent = text;
  };
  const fail = (message) => {
    put("error", message);
    part("error").hidden = false;
    return false;
  };
  const model = form.elements[side].value;
  for (const name of ["by", "first_token", "latency", "input", "output", "cost"]) put(name, "–");
  put("model", model);
  put("text", "");
  put("error", "");
  part("error").hidden = true;
  part("story").hidden = true;
  const began = performance.now();
  const since = () => {
    const ms = performance.now() - began;
    return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
  };
  let id = null;
  let ok = true;
  try {
    const response = await fetch("/dashboard/playground/answer", {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf-token": form.elements.csrf.value },
      body: JSON.stringify({ model, prompt: form.elements.prompt.value, max_tokens: Number(form.elements.max_tokens.value) || 256 }),
      signal,
    });
    // A request that failed is on record, too, under the id that every answer has.
    id = response.headers.get("x-bantam-id") || response.headers.get("x-request-id");
    if (!response.ok) {
      const problem = await response.json().catch(() => null);
      ok = fail(problem?.error?.message || `The server answered ${response.status}.`);
    } else {
      for await (const data of events(response.body)) {
        if (data.error) {
          ok = fail(data.error.message);
          break;
        }
        const text = data.choices?.[0]?.delta?.content;
        if (!text) continue;
        if (!part("text").textContent) put("first_token", since());
        part("text").append(text);
        put("latency", since());
      }
    }
  } catch (error) {
    ok = fail(error.name === "AbortError" ? "Stopped." : String(error.message || error));
  }
  put("latency", since());
  if (id) await outcome(id, put, part);
  return ok;
}

// What the ledger says, which has its entry a moment after a stream that was stopped.
async function outcome(id, put, part) {
  for (let i = 0; i < 5; i++) {
    const response = await fetch("/dashboard/playground/outcome/" + encodeURIComponent(id)).catch(() => null);
    const of = response?.ok ? await response.json().catch(() => null) : null;
    if (of) {
      for (const name of ["by", "first_token", "latency", "input", "output", "cost"]) put(name, of[name]);
      const story = part("story");
      story.href = "/dashboard/requests/" + encodeURIComponent(id);
      story.hidden = false;
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  put("cost", "not on record");
}

// The JSON of server-sent events.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

const now = document.querySelector("[data-live]");
if (now) live(now);
const form = byId("playground");
if (form) playground(form);
const made = byId("made");
if (made) made.select();
