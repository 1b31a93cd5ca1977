package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// output is the newest file, open for appending.
type output struct {
	*os.File
	size int64
}

// openOutput opens the file. A last line that a crash cut off is ended, so that it
// spoils no other.
func openOutput(path string) (*output, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	out := &output{File: file, size: info.Size()}
	if out.size == 0 {
		return out, nil
	}

	last := make([]byte, 1)
	if _, err = file.ReadAt(last, out.size-1); err == nil && last[0] != '\n' {
		err = out.append([]byte("\n"))
	}

	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return out, nil
}

// append writes all of data or, as far as the disk lets it, nothing.
func (o *output) append(data []byte) error {
	if _, err := o.Write(data); err != nil {
		return errors.Join(err, o.Truncate(o.size))
	}

	o.size += int64(len(data))

	return nil
}

// write appends the lines to the newest file, which it opens or begins anew where
// that is due. After a failure it starts over with the next call.
func (l *Log) write(lines []byte) (err error) {
	if l.file == nil {
		if l.file, err = openOutput(l.path); err != nil {
			return fmt.Errorf("open the event log: %w", err)
		}
	}

	if l.file.size > 0 && l.file.size+int64(len(lines)) > l.limit {
		if err = l.renew(); err != nil {
			return fmt.Errorf("open the event log: %w", err)
		}
	}

	if err = l.file.append(lines); err != nil {
		l.close()

		return fmt.Errorf("write the event log: %w", err)
	}

	return nil
}

// close ends the newest file. What it holds was reported as written already:
// a failure is only logged.
func (l *Log) close() {
	if l.file == nil {
		return
	}

	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		l.log.Warn("event log closed with a failure", "error", err)
	}

	l.file = nil
}

// renew begins a new file. Where the old one cannot be renamed it grows on, which
// loses nothing, until it is tried again that much later.
func (l *Log) renew() (err error) {
	l.close()

	rotateErr := l.rotate()

	if l.file, err = openOutput(l.path); err != nil {
		return err
	}

	l.limit = l.cfg.MaxSize
	if rotateErr != nil {
		l.limit += l.file.size
		l.log.Warn("event log is not rotated", "error", rotateErr)
	}

	return nil
}

// rotate renames each file to the next older one; the oldest is overwritten.
func (l *Log) rotate() error {
	l.names.Lock()
	defer l.names.Unlock()

	for age := l.cfg.Kept - 1; age >= 0; age-- {
		if err := os.Rename(l.aged(age), l.aged(age+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}

	return nil
}

// aged is the path of the file that was rotated so many times.
func (l *Log) aged(age int) string {
	if age == 0 {
		return l.path
	}

	return l.path + "." + strconv.Itoa(age)
}
