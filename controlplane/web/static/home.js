/*
 * The list of what is on air, kept fresh: asks for the same page again and takes its list over. Without
 * scripts the page is the same, only as old as its last load.
 */

const EVERY_MS = 5000;

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(5000) });
      const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').getElementById('streams');
      const shown = document.getElementById('streams');
      // Replaced only when it differs, so that a focused link keeps its focus.
      if (response.ok && fresh && fresh.innerHTML !== shown.innerHTML) {
        const focused = document.activeElement?.getAttribute('href');
        shown.replaceWith(fresh);
        if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
      }
    } catch {
      // the stream manager is away: the list stays as it was, and is asked for again
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
