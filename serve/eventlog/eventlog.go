// Package eventlog keeps events over restarts: JSON lines in a file that is
// rotated by size. Events are handed over without waiting; what cannot be written
// is counted, said once, and never an error of whoever had something to tell.
package eventlog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

// File is the name of the newest file; older ones have ".1", ".2" ... behind it,
// the higher the older.
const File = "events.jsonl"

// TypeLog is the type of events about the log itself.
const TypeLog = "eventlog"

const (
	queued     = 8192      // events that wait for a slow disk
	batchSize  = 256 << 10 // bytes put together for one write
	defaultMax = 10 << 20
	defaultOld = 3
)

// Config says where the log is. Zero fields mean the defaults named here.
type Config struct {
	// Dir is an existing directory.
	Dir string
	// MaxSize is how large a file may grow, in bytes: 10 MiB.
	MaxSize int64
	// Kept is how many older files are kept besides the newest: 3.
	Kept int
	// Log receives failures and recoveries; nil discards.
	Log *slog.Logger
	// Notice, unless nil, is told with an event when events begin to get lost and
	// when they are kept again. It may hand its event to Add; it must not wait.
	Notice func(localapi.Event)
}

// Log is an event log. Add, Since and Of are safe for concurrent use, before,
// during and after Run.
type Log struct {
	cfg     Config
	path    string
	log     *slog.Logger
	queue   chan localapi.Event
	dropped atomic.Int64 // found the queue full

	names sync.Mutex // held while files are renamed, or opened by their names

	// Run's own.
	file    *output
	limit   int64 // the size at which it is rotated
	failing bool
	lost    int // since it fails
}

// New returns a log in the directory; nothing is opened or made before Run.
func New(cfg Config) *Log {
	cfg.MaxSize, cfg.Kept = cmp.Or(cfg.MaxSize, defaultMax), cmp.Or(cfg.Kept, defaultOld)

	if cfg.Notice == nil {
		cfg.Notice = func(localapi.Event) {}
	}

	return &Log{
		cfg: cfg, limit: cfg.MaxSize, path: filepath.Join(cfg.Dir, File), queue: make(chan localapi.Event, queued),
		log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
	}
}

// Add hands an event over to be written. It never waits: where the disk is so
// slow that 8192 events are waiting, the event is dropped and counted, and the
// file says how many were.
func (l *Log) Add(e localapi.Event) {
	select {
	case l.queue <- e:
	default:
		l.dropped.Add(1)
	}
}

// Run writes until ctx ends and all that was added before is written. A directory
// that cannot be written, or a full disk, is logged and told once; each later
// event is another attempt. Call it once.
func (l *Log) Run(ctx context.Context) {
	for {
		select {
		case e := <-l.queue:
			l.keep(e)
		case <-ctx.Done():
			l.drain()

			return
		}
	}
}

func (l *Log) drain() {
	for {
		select {
		case e := <-l.queue:
			l.keep(e)
		default:
			l.close()

			return
		}
	}
}

// keep writes the event, and those that already wait behind it.
func (l *Log) keep(e localapi.Event) {
	var batch bytes.Buffer

	count := 1
	encode(&batch, e)

	for batch.Len() < batchSize {
		select {
		case e = <-l.queue:
			encode(&batch, e)
			count++

			continue
		default:
		}

		break
	}

	if n := l.dropped.Swap(0); n > 0 {
		said := notice(fmt.Sprintf("%d events are missing here", n), "they came faster than they could be written")
		l.log.Warn("events are missing from the event log", "dropped", n, "reason", said.Reason)
		encode(&batch, said)
	}

	l.settle(l.write(batch.Bytes()), count)
}

// encode appends the event as a line. An event is strings, a number and a time:
// it can be encoded unless its year has five digits, and then has no place here.
func encode(batch *bytes.Buffer, e localapi.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		return
	}

	batch.Write(line)
	batch.WriteByte('\n')
}

// settle tells of failure and recovery once each.
func (l *Log) settle(err error, count int) {
	switch {
	case err != nil:
		l.lost += count
		if l.failing {
			return
		}

		l.failing = true
		l.log.Error("events are not kept over a restart", "error", err)
		l.cfg.Notice(notice("events are not kept over a restart", err.Error()))
	case l.failing:
		lost := l.lost
		l.failing, l.lost = false, 0
		l.log.Info("events are kept again", "lost", lost)
		l.cfg.Notice(notice("events are kept again", fmt.Sprintf("%d were lost meanwhile", lost)))
	}
}

func notice(text, reason string) localapi.Event {
	return localapi.Event{At: time.Now(), Type: TypeLog, Text: text, Reason: reason}
}
