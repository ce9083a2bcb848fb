// Reads the feed: by fetch, so that the token travels in a header and never in an address.
// Decides when to ask again. Must never know what an event means.

const SILENCE = 6000; // ms: an update comes every 500
const SOONEST = 500;
const LATEST = 8000;

class Refused extends Error {}

class Feed {
  #url;
  #on;
  #stop = new AbortController();
  #lastId = "";
  #pause = SOONEST;

  // on: {open(), event(name, data), trying(why), refused()}
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
  }

  start(token) {
    this.stop();
    this.#stop = new AbortController();
    this.#run(token, this.#stop.signal);
  }

  stop() {
    this.#stop.abort();
  }

  async #run(token, stopped) {
    while (!stopped.aborted) {
      let why = "the feed ended before it began";
      try {
        if (await this.#read(token, stopped)) continue; // it ends now and then: the server may be about to stop
      } catch (error) {
        if (error instanceof Refused) return this.#on.refused();
        why = error.message;
      }
      if (stopped.aborted) return;
      this.#on.trying(why);
      await new Promise((done) => setTimeout(done, this.#pause));
      this.#pause = Math.min(this.#pause * 2, LATEST);
    }
  }

  // One request, to its end; whether it brought anything.
  async #read(token, stopped) {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    stopped.addEventListener("abort", abort);
    let patience = setTimeout(abort, SILENCE);
    let brought = false;
    try {
      const response = await fetch(this.#url, {
        headers: { Authorization: `Bearer ${asBytes(token)}`, "Last-Event-ID": this.#lastId },
        cache: "no-store",
        redirect: "error",
        signal: attempt.signal,
      });
      if (response.status === 401) throw new Refused();
      if (response.status === 503) throw new Error("enough others are watching");
      if (!response.ok) throw new Error(`the server answers ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return brought;
        clearTimeout(patience);
        patience = setTimeout(abort, SILENCE);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        if (stopped.aborted) return brought;
        if (!brought && blocks.length) this.#open();
        brought ||= blocks.length > 0;
        for (const block of blocks) this.#tell(block);
      }
    } catch (error) {
      if (brought && !(error instanceof Refused)) throw new Error("the connection broke");
      throw error instanceof TypeError || error.name === "AbortError" ? new Error("the server cannot be reached") : error;
    } finally {
      clearTimeout(patience);
      stopped.removeEventListener("abort", abort);
    }
  }

  #open() {
    this.#pause = SOONEST;
    this.#on.open();
  }

  #tell(block) {
    const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    if (fields.id) this.#lastId = fields.id;
    this.#on.event(fields.event, JSON.parse(fields.data));
  }
}

// A header holds bytes: those of UTF-8, as the server compares them.
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
