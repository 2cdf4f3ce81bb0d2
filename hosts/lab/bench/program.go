package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Program is refit's own file, idle.
type Program struct {
	Bytes int64 `json:"bytes"`
	// HelpSeconds is how long `refit --help` takes: the median of eleven.
	HelpSeconds float64 `json:"help_seconds"`
}

// measureProgram weighs refit and starts it for its help.
func measureProgram(ctx context.Context, program string) (Program, error) {
	info, err := os.Stat(program)
	if err != nil {
		return Program{}, fmt.Errorf("cannot weigh refit: %w", err)
	}
	var took []float64
	for range 11 {
		began := time.Now()
		if out, err := exec.CommandContext(ctx, program, "--help").CombinedOutput(); err != nil {
			return Program{}, fmt.Errorf("cannot start refit: %w: %s", err, out)
		}
		took = append(took, time.Since(began).Seconds())
	}
	return Program{Bytes: info.Size(), HelpSeconds: median(took)}, nil
}
