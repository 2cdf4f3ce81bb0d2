package lab

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Mirrors serves gems, npm packages, git repositories and the sources of Ruby and Node
// on the lab's bridge until the context ends. The process stands in the machine's own
// network, its listeners in the lab's: it is the only way out of the lab, and for npm
// packages alone. With a cloud account it serves that too.
func (l *Lab) Mirrors(ctx context.Context) error {
	// The lab's lock, which Up handed over, is for this process alone: hosts that the
	// account starts outlive it.
	unix.CloseOnExec(3)
	npm, err := newNpm(l.NpmFrom, filepath.Join(l.Cache, "npm"), l.NpmOverlay)
	if err != nil {
		return err
	}
	files := http.NewServeMux()
	files.Handle("/ruby/", http.FileServer(http.Dir(l.Tools)))
	files.Handle("/node/", http.StripPrefix("/node", newNodeMirror(npm, filepath.Join(l.Cache, "node"))))
	failed := make(chan error, 5)
	for port, h := range map[int]http.Handler{
		PortGems:  http.FileServer(http.Dir(l.Gems)),
		PortNpm:   npm,
		PortGit:   GitHTTP(l.Git),
		PortFiles: files,
	} {
		ln, err := listen(fmt.Sprintf("%s:%d", Gateway, port))
		if err != nil {
			return err
		}
		go func() { failed <- Serve(ctx, ln, h) }()
	}
	go func() { failed <- l.serveAccount(ctx) }()
	return <-failed
}

// Serve answers requests until the context ends.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(os.Stderr, "", log.LstdFlags)}
	stop := context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			log.Printf("closing: %v", err)
		}
	})
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve on %s: %w", ln.Addr(), err)
	}
	return ctx.Err()
}

// GitHTTP serves the repositories below root for reading, at /git/NAME.git.
func GitHTTP(root string) http.Handler {
	return &cgi.Handler{
		Path: "/usr/bin/git", Args: []string{"http-backend"}, Root: "/git",
		Env: []string{
			"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			// A client may ask for a commit by its name, as a lock file does.
			"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
		},
	}
}
