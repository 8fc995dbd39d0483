// Signing in and out, and who is signed in.

import { call, Problem } from "./api.js";
import { button, h } from "./dom.js";

const who = document.getElementById("who");

/** The form; `done` is called when somebody has signed in. */
export function form(note, done) {
  const problem = h("div", { class: "problem", role: "alert" });
  const user = h("input", { id: "user", name: "user", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
  const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const submit = h("button", { type: "submit", class: "main" }, "Sign in");

  async function send(event) {
    event.preventDefault();
    problem.replaceChildren();
    submit.disabled = true;
    try {
      await call("POST", ["session"], { user: user.value.trim(), password: password.value });
      done();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem.replaceChildren(h("p", null, error.message));
      password.value = "";
      password.focus();
    } finally {
      submit.disabled = false;
    }
  }

  return h("section", { class: "card sign-in", "aria-labelledby": "sign-in-title" },
    h("h2", { id: "sign-in-title" }, "Sign in"), note && h("p", null, note),
    h("form", { onsubmit: send },
      h("label", { for: "user" }, "User"), user,
      h("label", { for: "password" }, "Password"), password,
      problem, h("div", { class: "buttons" }, submit)));
}

/** Says in the page's head who is signed in; null is nobody. */
export function show(session, signedOut) {
  const seen = JSON.stringify(session);
  if (who.dataset.seen === seen) return;
  who.dataset.seen = seen;
  if (!session) return who.replaceChildren();
  if (session.via === "open") {
    return who.replaceChildren(h("span", { class: "warn" }, "Nobody is asked for a password yet: make an administrator (lunctl user add)"));
  }
  who.replaceChildren(h("span", null, `${session.user}, ${session.role}`));
  if (session.via !== "session") return undefined;
  who.append(" ", button("Sign out", async () => {
    await call("DELETE", ["session"]);
    signedOut();
  }));
  return undefined;
}
