// Gets tokens with x/oauth2 and verifies them with go-oidc, as their manuals say, for each issuer in CASES.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	oidc "github.com/coreos/go-oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const audience = "https://api.example.com"

type issuer struct {
	Algorithm string `json:"algorithm"`
	Issuer    string `json:"issuer"`
}

func main() {
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client())
	var issuers []issuer
	must(json.Unmarshal([]byte(os.Getenv("CASES")), &issuers))
	found := map[string]string{}
	for _, each := range issuers {
		found[each.Algorithm] = outcome(ctx, each)
	}
	must(json.NewEncoder(os.Stdout).Encode(found))
}

func outcome(ctx context.Context, each issuer) string {
	provider, err := oidc.NewProvider(ctx, each.Issuer)
	if err != nil {
		return err.Error()
	}
	// Later versions of go-oidc read the algorithms from the metadata by themselves.
	var metadata struct {
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	must(provider.Claims(&metadata))
	config := clientcredentials.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		TokenURL:     provider.Endpoint().TokenURL,
		Scopes:       []string{"read:data"},
	}
	token, err := config.Token(ctx)
	if err != nil {
		return err.Error()
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: audience, SupportedSigningAlgs: metadata.Algorithms})
	verified, err := verifier.Verify(ctx, token.AccessToken)
	if err != nil {
		return err.Error()
	}
	if _, err := verifier.Verify(ctx, changed(token.AccessToken)); err == nil {
		return "a changed signature is accepted"
	}
	return verified.Subject
}

// The token with another signature.
func changed(token string) string {
	at := strings.LastIndex(token, ".") + 1
	first := "A"
	if token[at:at+1] == first {
		first = "B"
	}
	return token[:at] + first + token[at+1:]
}

func client() *http.Client {
	certificate, err := os.ReadFile(os.Getenv("CA"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
