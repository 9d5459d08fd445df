package smtp_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/smtp"
)

// mailServer speaks as much of RFC 5321 as a mail needs, in clear; refuse refuses recipients.
type mailServer struct {
	net.Listener
	refuse bool

	mu    sync.Mutex
	mails []string // envelope and content
}

func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *mailServer) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // the mail is what is looked at
	say := func(line string) { _, _ = fmt.Fprintf(c, "%s\r\n", line) }
	in := bufio.NewScanner(c)
	say("220 mail.example ESMTP")
	envelope := ""
	for in.Scan() {
		line := in.Text()
		switch verb := strings.ToUpper(strings.Fields(line + " ")[0]); {
		case verb == "EHLO":
			say("250-mail.example")
			say("250 8BITMIME")
		case strings.HasPrefix(strings.ToUpper(line), "RCPT TO:") && s.refuse:
			say("550 no such user")
		case strings.HasPrefix(strings.ToUpper(line), "MAIL FROM:"), strings.HasPrefix(strings.ToUpper(line), "RCPT TO:"):
			envelope += line + "\n"
			say("250 ok")
		case verb == "DATA":
			say("354 go on")
			content := ""
			for in.Scan() && in.Text() != "." {
				content += in.Text() + "\n"
			}
			s.mu.Lock()
			s.mails = append(s.mails, envelope+content)
			s.mu.Unlock()
			say("250 queued")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	s := newMailServer(t)
	port := s.Addr().(*net.TCPAddr).Port
	cfg := destination.Config{"host": "127.0.0.1", "port": int64(port), "tls": "none", "from": "dray@example.com", "to": "a@example.com, b@example.com"}
	d, err := smtp.Connector{}.Open(t.Context(), cfg, destination.Env{Now: func() time.Time { return time.Unix(0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, ok := d.(destination.Notifier)
	if !ok {
		t.Fatal("it takes no messages")
	}
	if err := n.Notify(t.Context(), destination.Notice{ID: "shop.a.failed.1", Title: "shop: a failed", Text: "Run 1: 3 rows."}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mails) != 1 {
		t.Fatalf("%d mails", len(s.mails))
	}
	for _, want := range []string{"MAIL FROM:<dray@example.com>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "Subject: shop: a failed", "Message-ID: <shop.a.failed.1@dray>", "Run 1: 3 rows."} {
		if !strings.Contains(s.mails[0], want) {
			t.Errorf("the mail lacks %q:\n%s", want, s.mails[0])
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	s := newMailServer(t)
	s.refuse = true
	port := s.Addr().(*net.TCPAddr).Port
	cfg := destination.Config{"host": "127.0.0.1", "port": int64(port), "tls": "none", "from": "dray@example.com", "to": "a@example.com"}
	d, err := smtp.Connector{}.Open(t.Context(), cfg, destination.Env{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := d.(destination.Notifier); !ok || n.Notify(t.Context(), destination.Notice{Title: "x"}) == nil {
		t.Error("a mail that nobody took counts as sent")
	}
	cfg["tls"] = "starttls" // which this server does not offer
	if d, err = (smtp.Connector{}).Open(t.Context(), cfg, destination.Env{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Check(t.Context()); err == nil {
		t.Error("a password would have gone in clear")
	}
	for _, broken := range []destination.Config{{"host": "x", "from": "nobody", "to": "a@example.com"}, {"host": "x", "from": "a@example.com", "to": ","}} {
		if _, err := (smtp.Connector{}).Open(t.Context(), broken, destination.Env{Now: time.Now}); err == nil {
			t.Errorf("%v was taken", broken)
		}
	}
}
