package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// jsonHas demands a value in the last line of stdout or stderr that is JSON, or
// in the whole of it: jq stdout items.0.status ready
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: jq stdout|stderr PATH VALUE")
	}

	text := ts.ReadFile(args[0])

	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &document); err != nil {
			ts.Fatalf("%s is no JSON: %v", args[0], err)
		}
	}

	got := fmt.Sprint(dig(document, strings.Split(args[1], ".")))
	if (got == args[2]) == neg {
		ts.Fatalf("%s is %q", args[1], got)
	}
}

func dig(document any, path []string) any {
	for _, step := range path {
		switch at := document.(type) {
		case map[string]any:
			document = at[step]
		case []any:
			index := -1
			if _, err := fmt.Sscan(step, &index); err != nil || index < 0 || index >= len(at) {
				return nil
			}

			document = at[index]
		default:
			return nil
		}
	}

	return document
}
