package eventlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

// maxLine is the longest line that is believed to be an event.
const maxLine = 64 << 10

// Since returns the kept events that happened at t or later, in the order in which
// they were written. Lines that are no events are passed over and logged; a last
// line that is not complete is being written and comes with the next call. On an
// error the events of the files that could be read are returned with it.
func (l *Log) Since(t time.Time) ([]localapi.Event, error) {
	return l.read(t, nil, func(e localapi.Event) bool { return !e.At.Before(t) })
}

// Of returns the kept events of the machine, as Since does.
func (l *Log) Of(machineID string) ([]localapi.Event, error) {
	return l.read(time.Time{}, []byte(machineID), func(e localapi.Event) bool { return e.MachineID == machineID })
}

// read collects events from all files that were written at or after t. Lines
// without the mark are not even decoded.
func (l *Log) read(t time.Time, mark []byte, wanted func(localapi.Event) bool) (events []localapi.Event, err error) {
	files, err := l.open(t)
	foreign := 0

	for _, file := range files {
		readErr := eachLine(file, func(line []byte) {
			var e localapi.Event

			switch {
			case !bytes.Contains(line, mark):
			case json.Unmarshal(line, &e) != nil:
				foreign++
			case wanted(e):
				events = append(events, e)
			}
		})
		err = errors.Join(err, readErr, file.Close())
	}

	if foreign > 0 {
		l.log.Warn("lines of the event log are no events", "lines", foreign, "path", l.path)
	}

	return events, err
}

// open opens the files, the oldest first.
func (l *Log) open(t time.Time) (files []*os.File, err error) {
	l.names.Lock()
	defer l.names.Unlock()

	for age := l.cfg.Kept; age >= 0; age-- {
		info, statErr := os.Stat(l.aged(age))
		if errors.Is(statErr, fs.ErrNotExist) || statErr == nil && info.ModTime().Before(t) {
			continue
		}

		file, openErr := os.Open(l.aged(age))
		if openErr != nil {
			err = errors.Join(err, fmt.Errorf("read the event log: %w", openErr))

			continue
		}

		files = append(files, file)
	}

	return files, err
}

// eachLine calls do for every complete line that is not too long.
func eachLine(file io.Reader, do func([]byte)) error {
	reader := bufio.NewReaderSize(file, maxLine)
	tooLong := false

	for {
		line, err := reader.ReadSlice('\n')

		switch {
		case err == nil && !tooLong:
			if line = bytes.TrimSpace(line); len(line) > 0 {
				do(line)
			}
		case err == nil:
			tooLong = false
		case errors.Is(err, bufio.ErrBufferFull):
			tooLong = true
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("read the event log: %w", err)
		}
	}
}
