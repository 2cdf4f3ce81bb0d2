package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// errInstallRoot tells that packages are missing and this user cannot install any.
var errInstallRoot = errors.New("installing packages needs root; run it with sudo")

// Install installs what the machine's own Debian packages can give and is not
// there yet, and tells what and how long it took. Nothing missing asks nothing of
// the user and of apt.
func Install(ctx context.Context, say Say) error {
	program := func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
	file := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	apt := func(ctx context.Context, args ...string) error {
		_, err := runIn(ctx, "", []string{"DEBIAN_FRONTEND=noninteractive"}, append([]string{"apt-get"}, args...)...)
		return err
	}
	return install(ctx, lacking(program, file), os.Geteuid(), apt, say)
}

// lacking are the packages that hold what the machine has not, each once. program
// and file tell whether one is there.
func lacking(program, file func(string) bool) []string {
	var pkgs []string
	for _, t := range tools {
		if !program(t.program) && !slices.Contains(pkgs, t.pkg) {
			pkgs = append(pkgs, t.pkg)
		}
	}
	for _, f := range files {
		if !file(f.path) {
			pkgs = append(pkgs, f.pkg)
		}
	}
	return pkgs
}

// install installs packages as the user of that number, through apt-get.
func install(ctx context.Context, pkgs []string, user int, apt func(ctx context.Context, args ...string) error, say Say) error {
	if len(pkgs) == 0 {
		return nil
	}
	if user != 0 {
		return fmt.Errorf("cannot install %s: %w", strings.Join(pkgs, " "), errInstallRoot)
	}
	say("packages: installing %s from this machine's apt sources; about a minute", strings.Join(pkgs, " "))
	began := time.Now()
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-y", "-q", "--no-install-recommends"}, pkgs...),
	} {
		if err := apt(ctx, args...); err != nil {
			return fmt.Errorf("cannot install %s: %w", strings.Join(pkgs, " "), err)
		}
	}
	say("packages: installed in %.1f minutes", time.Since(began).Minutes())
	return nil
}
