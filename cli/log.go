package cli

import (
	"io"
	"log/slog"
	"strings"
	"time"
)

// logHandler writes text for people or, for programs, JSON in the shape that
// operators of the existing provider parse: level in lower case, ts as seconds
// since 1970, msg, then the keys.
func logHandler(w io.Writer, asJSON bool, level slog.Level) slog.Handler {
	if !asJSON {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}

	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: operatorsShape})
}

func operatorsShape(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch attr.Key {
		case slog.TimeKey:
			if at, ok := attr.Value.Any().(time.Time); ok {
				return slog.Float64("ts", float64(at.UnixMicro())/1e6)
			}
		case slog.LevelKey:
			return slog.String(slog.LevelKey, strings.ToLower(attr.Value.String()))
		}
	}

	if attr.Value.Kind() == slog.KindDuration {
		return slog.Float64(attr.Key, attr.Value.Duration().Seconds())
	}

	return attr
}
