package serve

import "encoding/base64"

// icon is shown beside the provider's name in Omni: a rack unit, as SVG.
var icon = base64.StdEncoding.EncodeToString([]byte(
	`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#888" stroke-width="1.6">` +
		`<rect x="2.5" y="4" width="19" height="7" rx="1.5"/><rect x="2.5" y="13" width="19" height="7" rx="1.5"/>` +
		`<path d="M6 7.5h.01M6 16.5h.01M10 7.5h8M10 16.5h8"/></svg>`))
