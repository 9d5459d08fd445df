package snowflake

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	sf "github.com/snowflakedb/gosnowflake"
)

// transport is what the driver's requests go through. It closes three gaps of the driver's own:
//
//   - An answer that breaks off after its head is a lost answer. The driver repeats requests whose connection broke, under the same
//     requestId, by which Snowflake knows what it has run; but it reads answers outside of that, and would give up. Here they are read
//     inside.
//   - A host that is not there, or not Snowflake, stays so: the driver would try for minutes.
//   - Files that are compressed are taken apart here: the driver does not close the connection of one that broke off.
type transport struct{ next http.RoundTripper }

// newTransport is around the driver's own, with its check for revoked certificates.
func newTransport() *transport {
	return &transport{sf.SnowflakeTransport}
}

// maxAnswer is how large an answer is kept whole: rows beyond the first few come in chunks, which are other requests.
const maxAnswer = 64 << 20

const (
	queryPath     = "/queries/"
	statementPath = "/queries/v1/query-request"
	loginPath     = "/session/v1/login-request"
	sessionPath   = "/session"
)

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if q := r.URL.Query(); strings.HasPrefix(r.URL.Path, queryPath) && q.Has("retryCount") && !q.Has("retry") {
		// What Snowflake's SQL API asks for of a request that is sent again, beside the same requestId.
		r = r.Clone(r.Context())
		q.Set("retry", "true")
		r.URL.RawQuery = q.Encode()
	}
	if n, ok := r.Context().Value(sentKey{}).(*atomic.Int32); ok && r.URL.Path == statementPath {
		n.Add(1)
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		if give, ok := r.Context().Value(giveUpKey{}).(context.CancelCauseFunc); ok && r.URL.Path == loginPath && hopeless(err) {
			give(err)
		}
		return nil, err
	}
	if !strings.HasPrefix(r.URL.Path, queryPath) && !strings.HasPrefix(r.URL.Path, sessionPath) {
		if r.Method == http.MethodGet && resp.StatusCode == http.StatusOK {
			if err := unzip(resp); err != nil {
				return nil, err
			}
		}
		return resp, nil
	}
	whole, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	rest := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(whole), rest), rest}
	return resp, nil
}

// unzip makes a compressed body a plain one.
func unzip(resp *http.Response) error {
	raw, body := resp.Body, bufio.NewReader(resp.Body)
	var plain io.Reader = body
	if magic, err := body.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		if plain, err = gzip.NewReader(body); err != nil {
			_ = raw.Close()
			return err
		}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{plain, raw}
	return nil
}

// CloseIdleConnections lets the driver close what it no longer needs.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type giveUpKey struct{}

// withGiveUp is a context that ends, with the reason as its cause, when signing in is hopeless.
func withGiveUp(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	return context.WithValue(ctx, giveUpKey{}, cancel), cancel
}

func hopeless(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	return errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert)
}
