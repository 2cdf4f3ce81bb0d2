package nginx

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const twoServers = `# written by hand, kept by refit
server 10.77.0.21:3000 max_fails=0;

	server 10.77.0.22:3000 weight=2 max_fails=0; # spock
`

func TestAnUntouchedFileIsRenderedAsItWasRead(t *testing.T) {
	for name, text := range map[string]string{
		"two servers":     twoServers,
		"nothing":         "",
		"a drained one":   "server 10.77.0.21:4000 max_fails=0 down;\nserver 10.77.0.22:4000;\n",
		"odd blanks":      "server  10.77.0.21:4000   down  max_fails=0 ;\n\n\n",
		"a version 6 one": "server [fd00::21]:4000 backup;\n",
	} {
		t.Run(name, func(t *testing.T) {
			inc, err := ParseInclude("web.conf", text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, inc.Render()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDownAndUpAgainTouchOnlyTheServersOfThatHost(t *testing.T) {
	inc, err := ParseInclude("web.conf", twoServers)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := inc.Set("10.77.0.22", true); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	want := strings.Replace(twoServers, "weight=2 max_fails=0;", "weight=2 max_fails=0 down;", 1)
	if diff := cmp.Diff(want, inc.Render()); diff != "" {
		t.Error(diff)
	}
	if changed, err := inc.Set("10.77.0.22:3000", true); err != nil || changed {
		t.Fatalf("the second time: changed %v, %v", changed, err)
	}
	if changed, err := inc.Set("10.77.0.22", false); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if diff := cmp.Diff(twoServers, inc.Render()); diff != "" {
		t.Error(diff)
	}
}

func TestTheLastServerIsNeverMarkedDown(t *testing.T) {
	for name, text := range map[string]string{
		"alone":                  "server 10.77.0.21:3000;\n",
		"the other is down":      "server 10.77.0.21:3000;\nserver 10.77.0.22:3000 down;\n",
		"the other is a reserve": "server 10.77.0.21:3000;\nserver 10.77.0.22:3000 backup;\n",
	} {
		t.Run(name, func(t *testing.T) {
			inc, err := ParseInclude("web.conf", text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := inc.Set("10.77.0.21", true); !errors.Is(err, ErrLastServer) {
				t.Errorf("got %v", err)
			}
			if inc.Render() != text {
				t.Error("the file was changed all the same")
			}
		})
	}
}

func TestAServerThatIsNotThereIsRefused(t *testing.T) {
	inc, err := ParseInclude("web.conf", twoServers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inc.Set("10.77.0.2", false); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("got %v", err)
	}
}

func TestAnythingUnknownIsRefusedWithFileAndLine(t *testing.T) {
	for name, bad := range map[string]string{
		"another directive":  "keepalive 16;",
		"two statements":     "server 10.77.0.21:3000; server 10.77.0.22:3000;",
		"no semicolon":       "server 10.77.0.21:3000",
		"no port":            "server 10.77.0.21;",
		"a socket":           "server unix:/run/puma.sock;",
		"unknown parameter":  "server 10.77.0.21:3000 dwn;",
		"empty value":        "server 10.77.0.21:3000 max_fails=;",
		"down twice":         "server 10.77.0.21:3000 down down;",
		"a variable":         "server $backend:3000;",
		"a block":            "upstream x {",
		"comment before end": "server 10.77.0.21:3000 # down;",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseInclude("/etc/nginx/refit/web.conf", "server 10.77.0.22:3000;\n"+bad+"\n")
			if err == nil || !strings.Contains(err.Error(), "/etc/nginx/refit/web.conf line 2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzWhatIsUnderstoodRendersToItself(f *testing.F) {
	f.Add(twoServers)
	f.Add("server 10.77.0.21:4000 max_fails=0 down;\n")
	f.Fuzz(func(t *testing.T, text string) {
		inc, err := ParseInclude("x", text)
		if err != nil {
			return
		}
		want := text
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if got := inc.Render(); got != want {
			t.Errorf("%q became %q", text, got)
		}
	})
}
