// Tells the page that embeds a connect link, or opened it in a window, how it ended. The browser delivers a message
// only to a page of exactly the named origin; whoever else stands at these places gets nothing.
const report = document.getElementById("report").dataset;
const message = { type: "external-apis.connect", link: report.link, status: report.status, connection_id: report.connection || null };
const opener = window.opener;
for (const page of new Set([opener, opener && opener.parent, window.parent])) {
    if (page && page !== window) {
        page.postMessage(message, report.origin);
    }
}
