// Package smtp sends messages about syncs by mail. It takes no rows of syncs.
package smtp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
)

// Connector makes smtp destinations.
type Connector struct{}

// Spec declares the connector.
func (Connector) Spec() destination.Spec {
	return destination.Spec{
		Type: "smtp", Title: "Mail (SMTP)", Summary: "Messages of `alerts:` by mail. It takes no rows of syncs.", Notifies: true,
		Config: []destination.Option{
			{Name: "host", Type: "string", Required: true, Example: "smtp.example.com", Doc: "The mail server."},
			{Name: "port", Type: "int", Default: "587", Doc: "Its port."},
			{
				Name: "tls", Type: "string", Default: "starttls", Enum: []string{"starttls", "implicit", "none"},
				Doc: "starttls: encrypted from the first command on, or not at all. implicit: encrypted from the first byte (port 465). none: in clear, for a relay on this machine.",
			},
			{Name: "username", Type: "string", Doc: "Whom to log in as. Default: nobody."},
			{Name: "password", Type: "string", Secret: true, Doc: "Their password."},
			{Name: "from", Type: "string", Required: true, Example: "dray@example.com", Doc: "The sender."},
			{Name: "to", Type: "string", Required: true, Example: `"data@example.com, ops@example.com"`, Doc: "Who gets the mail: one address, or several with commas between."},
		},
	}
}

// server is one mail server and the people who are written to. Safe for concurrent use: each mail has a connection of its own.
type server struct {
	cfg destination.Config
	to  []string
	now func() time.Time
}

// Open checks the configuration; it connects to nothing.
func (Connector) Open(_ context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	s := &server{cfg: cfg, now: env.Now}
	for to := range strings.SplitSeq(cfg.String("to"), ",") {
		if to = strings.TrimSpace(to); to != "" {
			s.to = append(s.to, to)
		}
	}
	if _, err := s.message(destination.Notice{Title: "x"}); err != nil {
		return nil, err
	}
	if _, err := s.client(); err != nil {
		return nil, diag.Errorf(diag.Invalid, "destination.option", "smtp: %s", err)
	}
	return s, nil
}

func (s *server) client() (*mail.Client, error) {
	options := []mail.Option{mail.WithPort(int(s.cfg.Int("port"))), mail.WithTimeout(30 * time.Second)}
	switch s.cfg.String("tls") {
	case "implicit":
		options = append(options, mail.WithSSL())
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if user := s.cfg.String("username"); user != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(user), mail.WithPassword(s.cfg.String("password")))
	}
	return mail.NewClient(s.cfg.String("host"), options...)
}

func (s *server) message(n destination.Notice) (*mail.Msg, error) {
	m := mail.NewMsg()
	if err := m.From(s.cfg.String("from")); err != nil {
		return nil, diag.Errorf(diag.Invalid, "destination.option", "smtp: from is not a mail address")
	}
	if err := m.To(s.to...); err != nil || len(s.to) == 0 {
		return nil, diag.Errorf(diag.Invalid, "destination.option", "smtp: to is not a list of mail addresses")
	}
	m.Subject(n.Title)
	m.SetDateWithValue(s.now())
	if n.ID != "" {
		m.SetMessageIDWithValue(n.ID + "@dray") // the same when it is sent again, so that readers show it once
	}
	m.SetBodyString(mail.TypeTextPlain, n.Text+"\n")
	return m, nil
}

// Check connects, logs in and leaves.
func (s *server) Check(ctx context.Context) (destination.Account, error) {
	name := fmt.Sprintf("%s:%d", s.cfg.String("host"), s.cfg.Int("port"))
	c, err := s.client()
	if err != nil {
		return destination.Account{}, err
	}
	if err := c.DialWithContext(ctx); err != nil {
		return destination.Account{}, s.failed("connecting to", err)
	}
	return destination.Account{ID: name, Name: name}, c.Close()
}

func (s *server) failed(doing string, err error) error {
	return &diag.Error{Kind: diag.Failed, Code: "smtp", Msg: doing + " the mail server " + s.cfg.String("host"), Err: err}
}

// Write refuses: it takes no rows.
func (s *server) Write(context.Context, *destination.Batch) ([]destination.Outcome, error) {
	return nil, &destination.Error{Class: destination.Stop, Code: "no_objects", Message: "smtp takes messages, not rows"}
}

// Close does nothing.
func (s *server) Close() error { return nil }

// Notify sends one mail.
func (s *server) Notify(ctx context.Context, n destination.Notice) error {
	m, err := s.message(n)
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := c.DialAndSendWithContext(ctx, m); err != nil {
		return s.failed("sending mail by", err)
	}
	return nil
}
