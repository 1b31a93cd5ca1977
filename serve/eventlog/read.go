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
	return l.read(nil, func(e localapi.Event) bool { return !e.At.Before(t) })
}

// Of returns the kept events of the machine, as Since does.
func (l *Log) Of(machineID string) ([]localapi.Event, error) {
	return l.read([]byte(machineID), func(e localapi.Event) bool { return e.MachineID == machineID })
}

// read collects the wanted events. Lines without the mark are not even decoded.
func (l *Log) read(mark []byte, wanted func(localapi.Event) bool) (events []localapi.Event, err error) {
	files, err := l.open()
	foreign := 0

	for _, file := range files {
		readErr := eachLine(file, func(line []byte) {
			var e localapi.Event

			switch {
			case !bytes.Contains(line, mark):
			case json.Unmarshal(line, &e) != nil || e.At.IsZero():
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
func (l *Log) open() (files []*os.File, err error) {
	l.names.Lock()
	defer l.names.Unlock()

	for age := l.cfg.Kept; age >= 0; age-- {
		file, openErr := os.Open(l.aged(age))

		switch {
		case openErr == nil:
			files = append(files, file)
		case !errors.Is(openErr, fs.ErrNotExist):
			err = errors.Join(err, fmt.Errorf("read the event log: %w", openErr))
		}
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
