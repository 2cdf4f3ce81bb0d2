package notes

import (
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// kind is what a block is.
type kind int

const (
	heading kind = iota
	paragraph
	list
	item
	quote
	code
	html
)

// block is a piece of a body as a reader sees it: no markup is left in it.
type block struct {
	kind kind
	// text is the visible text of a leaf; a line break in it is "\n".
	text string
	// codes are a leaf's code spans, in order; of kind code, its lines.
	codes []string
	// links are a leaf's links.
	links []link
	// strong: all of the leaf is bold, as headings are in notes before 4.5.
	strong bool
	// ordered: of kind list, its items are numbered.
	ordered bool
	// last: nothing follows in the body.
	last bool
	kids []block
}

type link struct{ label, target string }

// deepest is how far quotes and lists are followed into each other, counting a list
// and its items; mostMarks how many brackets, and how many marks of emphasis, are
// looked at in one leaf. The parser's time grows with the square of these, and its
// stack with the first; notes have up to 4 and 40.
const (
	deepest   = 16
	mostMarks = 128
)

// blocks reads markdown into the blocks of its top level.
func blocks(src []byte) []block {
	p := parser.NewParser(
		parser.WithBlockParsers(
			util.Prioritized(parser.NewSetextHeadingParser(), 100),
			util.Prioritized(parser.NewThematicBreakParser(), 200),
			util.Prioritized(shallow{parser.NewListParser()}, 300),
			util.Prioritized(parser.NewListItemParser(), 400),
			util.Prioritized(parser.NewCodeBlockParser(), 500),
			util.Prioritized(parser.NewATXHeadingParser(), 600),
			util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
			util.Prioritized(shallow{parser.NewBlockquoteParser()}, 800),
			util.Prioritized(parser.NewHTMLBlockParser(), 900),
			util.Prioritized(parser.NewParagraphParser(), 1000),
		),
		parser.WithInlineParsers(
			util.Prioritized(parser.NewCodeSpanParser(), 100),
			util.Prioritized(&few{InlineParser: parser.NewLinkParser(), key: parser.NewContextKey()}, 200),
			util.Prioritized(parser.NewAutoLinkParser(), 300),
			util.Prioritized(parser.NewRawHTMLParser(), 400),
			util.Prioritized(&few{InlineParser: parser.NewEmphasisParser(), key: parser.NewContextKey()}, 500),
		),
		// No definitions of links: what stands below would change what is read above.
	)
	out := children(p.Parse(text.NewReader(src)), src)
	if len(out) > 0 {
		markLast(&out[len(out)-1])
	}
	return out
}

func markLast(b *block) {
	b.last = true
	if n := len(b.kids); n > 0 {
		markLast(&b.kids[n-1])
	}
}

// shallow is a parser of lists or quotes that opens none beyond deepest: what is
// deeper is read as text.
type shallow struct{ parser.BlockParser }

func (s shallow) Open(parent ast.Node, r text.Reader, pc parser.Context) (ast.Node, parser.State) {
	// Inside a list, the list parser only takes note of its next item.
	if parent.Kind() != ast.KindList {
		depth := 0
		for n := parent; n != nil; n = n.Parent() {
			depth++
		}
		if depth > deepest {
			return nil, parser.NoChildren
		}
	}
	return s.BlockParser.Open(parent, r, pc)
}

// few is an inline parser that looks at mostMarks marks of a leaf and leaves the rest
// as the text it is.
type few struct {
	parser.InlineParser
	key parser.ContextKey
}

type marks struct {
	leaf ast.Node
	n    int
}

func (f *few) Parse(parent ast.Node, r text.Reader, pc parser.Context) ast.Node {
	m, ok := pc.Get(f.key).(*marks)
	if !ok || m.leaf != parent {
		m = &marks{leaf: parent}
		pc.Set(f.key, m)
	}
	if m.n++; m.n > mostMarks && r.Peek() != ']' {
		return nil
	}
	return f.InlineParser.Parse(parent, r, pc)
}

// CloseBlock implements parser.CloseBlocker, for the parser inside.
func (f *few) CloseBlock(parent ast.Node, r text.Reader, pc parser.Context) {
	if c, ok := f.InlineParser.(parser.CloseBlocker); ok {
		c.CloseBlock(parent, r, pc)
	}
}

// children are the blocks right inside a node.
func children(n ast.Node, src []byte) []block {
	var out []block
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		b, ok := container(c, src)
		if !ok {
			b = leaf(c, src)
		}
		if b.text != "" || len(b.kids) > 0 || len(b.links) > 0 {
			out = append(out, b)
		}
	}
	return out
}

func container(n ast.Node, src []byte) (block, bool) {
	b := block{}
	switch n := n.(type) {
	case *ast.List:
		b.kind, b.ordered = list, n.IsOrdered()
	case *ast.ListItem:
		b.kind = item
	case *ast.Blockquote:
		b.kind = quote
	default:
		return b, false
	}
	b.kids = children(n, src)
	return b, true
}

func leaf(n ast.Node, src []byte) block {
	switch n := n.(type) {
	case *ast.HTMLBlock:
		return ofHTML(n, src)
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		raw := strings.Trim(string(n.Lines().Value(src)), "\n")
		return block{kind: code, text: shown(raw), codes: strings.Split(raw, "\n")}
	}
	b := block{kind: paragraph}
	if n.Kind() == ast.KindHeading {
		b.kind = heading
	}
	var s strings.Builder
	b.inline(n, src, &s)
	b.text = tidy(s.String())
	first, ok := n.FirstChild().(*ast.Emphasis)
	b.strong = ok && first.Level == 2 && first.NextSibling() == nil
	return b
}

// inline writes what is seen of a node's inside to s, and notes code and links. The
// depth of its calls is bounded by mostMarks.
func (b *block) inline(n ast.Node, src []byte, s *strings.Builder) {
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			s.Write(plain(c, src))
			if c.SoftLineBreak() || c.HardLineBreak() {
				s.WriteByte('\n')
			}
		case *ast.CodeSpan:
			text := strings.Join(strings.Fields(spanned(c, src)), " ")
			b.codes = append(b.codes, text)
			s.WriteString(text)
		case *ast.Link:
			start := s.Len()
			b.inline(c, src, s)
			b.links = append(b.links, link{label: s.String()[start:], target: string(c.Destination)})
		case *ast.AutoLink:
			s.Write(c.Label(src))
		case *ast.RawHTML:
			if br.Match(c.Segments.Value(src)) {
				s.WriteByte('\n')
			}
		default:
			b.inline(c, src, s)
		}
	}
}

// br is a line break in HTML.
var br = regexp.MustCompile(`^(?i)<br\s*/?>$`)

func plain(t *ast.Text, src []byte) []byte {
	v := t.Segment.Value(src)
	if t.IsRaw() {
		return v
	}
	return util.UnescapePunctuations(util.ResolveEntityNames(util.ResolveNumericReferences(v)))
}

// spanned is the content of a code span, which has no escapes.
func spanned(n ast.Node, src []byte) string {
	var s strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			s.Write(t.Segment.Value(src))
		}
	}
	return s.String()
}

// tags are what is not seen of HTML; a comment may go over several lines.
var (
	comments = regexp.MustCompile(`(?s)<!--.*?(?:-->|$)`)
	tags     = regexp.MustCompile(comments.String() + `|<[^>]*>`)
	href     = regexp.MustCompile(`href\s*=\s*["']?([^"'>\s]+)`)
)

func ofHTML(n *ast.HTMLBlock, src []byte) block {
	b := block{kind: html}
	if n.HTMLBlockType == ast.HTMLBlockType2 {
		return b
	}
	raw := string(n.Lines().Value(src))
	if n.HasClosure() {
		raw += string(n.ClosureLine.Value(src))
	}
	b.text = tidy(tags.ReplaceAllString(raw, " "))
	for _, m := range href.FindAllStringSubmatch(comments.ReplaceAllString(raw, " "), -1) {
		b.links = append(b.links, link{target: m[1]})
	}
	return b
}

// unseen turns the writing around, takes no room or drives a terminal: text that holds it
// looks like another, or does something. It is shown, so that what looks like a version or
// a name is none. The source holds no control characters; "&#27;" stands for one.
var unseen = regexp.MustCompile(`\p{Cf}|[^\P{Cc}\n\t]`)

func shown(s string) string { return unseen.ReplaceAllString(s, "\ufffd") }

// tidy leaves one blank between words and no blank lines.
func tidy(s string) string {
	var lines []string
	for line := range strings.Lines(shown(s)) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
