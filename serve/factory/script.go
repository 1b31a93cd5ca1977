package factory

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Script is what an iPXE script of the factory loads.
type Script struct {
	// Kernel is the URL of the kernel, or of the unified kernel image.
	Kernel string
	// Args are the kernel's arguments, in order.
	Args []string
	// Initrd is the URL of the initial file system; empty with a unified kernel
	// image, which brings its own.
	Initrd string
	// Private: its URLs, or the URL that it came from, carry credentials or a token.
	// It must not be written down.
	Private bool
}

// Script fetches the script behind PXEScriptURL and takes it apart, for callers
// that must add kernel arguments of their own which do not belong into a
// schematic, such as a configuration that holds a join token. Scripts are
// remembered, because they never change, unless their URLs carry credentials
// or a token. Failures are those of EnsureSchematic.
func (c *Client) Script(ctx context.Context, id, version, arch string, secureBoot bool) (Script, error) {
	target, err := url.Parse(c.PXEScriptURL(id, version, arch, secureBoot))
	if err != nil {
		return Script{}, fmt.Errorf("boot script of schematic %s: %w", id, err)
	}

	key := target.String()
	if script, ok := c.fetched(key); ok {
		return script, nil
	}

	script, err := shared(ctx, c, key, func(ctx context.Context) (Script, error) { return c.fetch(ctx, target) })
	if err != nil {
		return Script{}, fmt.Errorf("fetch boot script %s: %w", target.Redacted(), err)
	}

	return script.clone(), nil
}

func (s Script) clone() Script {
	s.Args = append([]string(nil), s.Args...)

	return s
}

func (c *Client) fetched(key string) (Script, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	script, ok := c.scripts[key]

	return script.clone(), ok
}

func (c *Client) fetch(ctx context.Context, target *url.URL) (Script, error) {
	var script Script

	err := c.attempt(ctx, http.MethodGet, target, nil, func(body []byte) (err error) {
		script, err = parseScript(body)

		return err
	})
	script.Private = target.User != nil || private(script.Kernel) || private(script.Initrd)
	if err != nil || script.Private {
		return script, err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.scripts[target.String()] = script

	return script, nil
}

// private tells whether the URL carries a login or, in its query, perhaps a token.
func private(text string) bool {
	parsed, err := url.Parse(text)

	return err != nil || parsed.User != nil || parsed.RawQuery != ""
}

// parseScript reads the commands kernel, initrd, imgfree and boot; the factory
// uses no others, and a script that does cannot be taken apart safely.
func parseScript(body []byte) (Script, error) {
	var (
		script Script
		boots  bool
	)

	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, maxBody)

	for lines.Scan() {
		words := strings.Fields(lines.Text())

		switch {
		case len(words) == 0, strings.HasPrefix(words[0], "#"), words[0] == "imgfree":
		case words[0] == "boot" && len(words) == 1:
			boots = true
		case words[0] == "kernel" && len(words) > 1 && isURL(words[1]):
			script.Kernel, script.Args = words[1], words[2:]
		case words[0] == "initrd" && len(words) == 2 && isURL(words[1]):
			script.Initrd = words[1]
		default:
			return Script{}, fmt.Errorf("boot script holds a line that is not understood: %s", quote(lines.Bytes()))
		}
	}

	if err := lines.Err(); err != nil {
		return Script{}, fmt.Errorf("boot script: %w", err)
	}

	if !boots || script.Kernel == "" {
		return Script{}, fmt.Errorf("boot script names no kernel or does not boot it: %s", quote(body))
	}

	return script, nil
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}
