// Uses a report as a person would, and tells what came of it and how long the page did not answer meanwhile.
"use strict";
(async () => {
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({
    type: "longtask",
    buffered: true,
  });
  const pause = (time) => new Promise((resume) => setTimeout(resume, time));
  while (document.documentElement.dataset.ready === undefined) await pause(5);
  const ready = Math.round(performance.now());
  const list = document.querySelector("section.list");
  const find = (selector) => list.querySelector(selector);
  const button = (label) => [...list.querySelectorAll("button")].find((one) => one.textContent === label);
  const input = (selector, event, set) => {
    set(find(selector));
    find(selector).dispatchEvent(new Event(event));
  };
  const steps = [];
  const step = async (name, act) => {
    await act();
    await pause(300); // a search waits until nobody types
    steps.push({
      name,
      status: find(".status").textContent,
      rows: list.querySelectorAll("tbody tr:not(.group)").length,
      groups: [...list.querySelectorAll("tr.group bdi")].map((one) => one.textContent),
      first: find("tbody td.name")?.textContent ?? "",
      sorted: [...list.querySelectorAll("th[aria-sort]")].map((one) => one.getAttribute("aria-sort")).join(),
      focus: document.activeElement?.textContent ?? "",
      longest: Math.max(0, ...tasks.splice(0)),
    });
  };
  await step("load", () => {});
  const text = find("tbody").textContent;
  await step("search", () => input("[type=search]", "input", (one) => (one.value = "SECRET app-7")));
  await step("search nothing", () => input("[type=search]", "input", (one) => (one.value = "no such words")));
  await step("search no more", () => input("[type=search]", "input", (one) => (one.value = "")));
  await step("sort", () => button("Workload").click());
  await step("sort down", () => button("Workload").click());
  await step("ungroup", () => input("[type=checkbox]", "change", (one) => (one.checked = false)));
  await step("next page", () => button("Next").click());
  await step("follow a link", () => document.querySelector(".sums a").click());
  await step("print", () => dispatchEvent(new Event("beforeprint")));
  await step("printed", () => dispatchEvent(new Event("afterprint")));
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const told = { paint: Math.round(paint.startTime), ready, steps, text, attacked: window.attacked === true };
  console.log(`portcullis-page ${btoa(unescape(encodeURIComponent(JSON.stringify(told))))} .`);
})();
