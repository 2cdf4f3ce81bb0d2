package builds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LogIn asks for a step's log to be kept: the next job of its name begins another.
type LogIn struct {
	Layout Layout `json:"layout"`
	// Of is what it was a step of: "v4.6.3", "ruby-3.4.7".
	Of   string `json:"of"`
	Step string `json:"step"`
	// From is the job's own log.
	From string `json:"from"`
}

// LogOut is where it is kept; empty if there was none.
type LogOut struct {
	Path string `json:"path,omitempty"`
}

// keepLog copies a step's whole log to where only root reads it: a build may say more
// than all should know.
func keepLog(_ context.Context, in LogIn) (LogOut, error) {
	if _, err := os.Stat(in.From); errors.Is(err, fs.ErrNotExist) {
		return LogOut{}, nil
	}
	dir := filepath.Join(in.Layout.Cache, "logs")
	to := filepath.Join(dir, fmt.Sprintf("%s-%s-%s.log", in.Of, time.Now().UTC().Format("20060102T150405.000Z"), in.Step))
	err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700))
	if err == nil {
		err = copyFile(in.From, to)
	}
	if err == nil {
		err = os.Chmod(to, 0o600)
	}
	if err != nil {
		return LogOut{}, noRoom(in.Layout, fmt.Errorf("cannot keep the log of %s: %w", in.Step, err))
	}
	return LogOut{Path: to}, nil
}
