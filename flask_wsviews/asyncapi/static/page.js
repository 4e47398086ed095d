// The page's frame: it fetches the document, shows it, and switches between the two views.

import { startConsole } from "./console.js";
import { parsed } from "./parsed.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];

function select(tab) {
  for (const other of tabs) {
    const isSelected = other === tab;
    other.setAttribute("aria-selected", String(isSelected));
    other.tabIndex = isSelected ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !isSelected;
  }
  history.replaceState(null, "", tab.id === "console-tab" ? "#console" : location.pathname);
}

for (const tab of tabs) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      select(next);
    }
  });
}

function complain(text) {
  const problem = document.getElementById("problem");
  problem.textContent = text;
  problem.hidden = false;
}

async function start() {
  const response = await fetch(document.body.dataset.document);
  if (!response.ok) {
    complain(`The document can't be read: ${response.status} ${response.statusText}`);
    return;
  }
  const spec = await response.json();
  startConsole(spec, document.body.dataset.root);
  if (location.hash === "#console") {
    select(document.getElementById("console-tab"));
  }
  window.AsyncApiStandalone.render(
    {
      schema: parsed(spec),
      config: { show: { sidebar: true, errors: true }, sidebar: { showOperations: "bySpec" } },
    },
    document.getElementById("documentation"),
  );
}

start().catch((error) => complain(`This page failed: ${error.message}`));
