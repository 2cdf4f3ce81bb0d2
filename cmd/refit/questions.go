package main

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// question stands in a refit.yml that `refit init` wrote where something could not be
// guessed; what is asked is in the comment behind it.
const question = "?"

// questions are the places of a file that still ask something, one line each.
func questions(path string, file *ast.File) []string {
	var out []string
	ask := asker(func(n ast.Node) {
		if s, ok := n.(*ast.StringNode); ok && s.Value == question {
			field := strings.TrimPrefix(n.GetPath(), "$.")
			out = append(out, fmt.Sprintf("%s:%d: %s: is a question that `refit init` could not answer; the comment there says what is asked", path, n.GetToken().Position.Line, field))
		}
	})
	for _, doc := range file.Docs {
		if doc.Body != nil {
			ast.Walk(ask, doc.Body)
		}
	}
	return out
}

// asker visits every node.
type asker func(ast.Node)

// Visit calls the asker.
func (a asker) Visit(n ast.Node) ast.Visitor {
	a(n)
	return a
}
