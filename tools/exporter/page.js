"use strict";
// Every five seconds the same document is asked for, and takes the place of what is shown. Without this script a reload does that.
(() => {
	const pause = document.getElementById("pause");
	let paused = false;
	const look = async () => {
		if (paused || document.hidden)
			return;
		try {
			const answer = await fetch(location.href, {cache: "no-store"});
			const next = new DOMParser().parseFromString(await answer.text(), "text/html");
			const open = document.getElementById("checks")?.open;
			const focused = document.activeElement?.closest("main") ? document.activeElement.closest("[id]")?.id : null;
			document.querySelector("main").replaceWith(next.querySelector("main"));
			document.querySelector("time").replaceWith(next.querySelector("time"));
			if (open)
				document.getElementById("checks").open = true;
			if (focused)
				document.querySelector(`#${focused} summary`)?.focus();
		} catch {
			document.querySelector("time").textContent = "the exporter does not answer";
		}
	};
	pause.hidden = false;
	pause.addEventListener("click", () => {
		paused = !paused;
		pause.textContent = paused ? "Resume" : "Pause";
		look();
	});
	setInterval(look, 5000);
})();
