// Renews the job list while one of its jobs is active.

const list = document.getElementById("jobs");

async function renew() {
  if (!list.querySelector('[data-active="yes"]') || document.hidden) return;
  const response = await fetch(list.dataset.part).catch(() => null);
  if (response?.ok && !list.contains(document.activeElement)) list.innerHTML = await response.text();
}

setInterval(renew, 2000);
