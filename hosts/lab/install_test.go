package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsMissingIsInstalledAndSaidAndNothingElse(t *testing.T) {
	pkgs := lacking(func(name string) bool { return name != "gcc" && name != "ip" && name != "tc" }, func(path string) bool { return path == debianKeys })
	if want := []string{"iproute2", "gcc", "libc6-dev"}; !slices.Equal(pkgs, want) {
		t.Fatalf("lacking %v, want %v", pkgs, want)
	}
	var said, asked []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	apt := func(_ context.Context, args ...string) error {
		asked = append(asked, strings.Join(args, " "))
		return nil
	}
	must(t, install(t.Context(), pkgs, 0, apt, say))
	if want := []string{"update -q", "install -y -q --no-install-recommends iproute2 gcc libc6-dev"}; !slices.Equal(asked, want) {
		t.Errorf("asked apt-get for %q, want %q", asked, want)
	}
	if len(said) == 0 || !strings.Contains(said[0], "iproute2 gcc libc6-dev") {
		t.Errorf("said %q", said)
	}
}

func TestAMachineThatHasAllAsksNothingOfAptAndTheUser(t *testing.T) {
	all := func(string) bool { return true }
	apt := func(context.Context, ...string) error {
		t.Error("apt-get was run")
		return nil
	}
	must(t, install(t.Context(), lacking(all, all), 1000, apt, func(string, ...any) { t.Error("something was said") }))
}

func TestWithoutRootAptIsNotEvenTried(t *testing.T) {
	apt := func(context.Context, ...string) error {
		t.Error("apt-get was run")
		return nil
	}
	err := install(t.Context(), []string{"gcc", "libc6-dev"}, 1000, apt, t.Logf)
	if !errors.Is(err, errInstallRoot) || !strings.Contains(err.Error(), "gcc libc6-dev") {
		t.Errorf("got %v, want one that names the packages and wraps %v", err, errInstallRoot)
	}
}

func TestAnInstallationThatFailsNamesWhatIsMissing(t *testing.T) {
	broken := errors.New("no network")
	err := install(t.Context(), []string{"gcc"}, 0, func(context.Context, ...string) error { return broken }, t.Logf)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "gcc") {
		t.Errorf("got %v, want one that names gcc and wraps %v", err, broken)
	}
}
