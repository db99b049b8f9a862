// A program with golang.org/x/oauth2: a token by a secret, both ways to send it, and a call.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func call(style oauth2.AuthStyle, secret string) any {
	origin := os.Getenv("ORIGIN")
	config := clientcredentials.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: secret,
		TokenURL:     origin + "/oauth/token",
		Scopes:       []string{"read:data"},
		AuthStyle:    style,
	}
	response, err := config.Client(context.Background()).Get(origin + "/data")
	if err != nil {
		return "refused"
	}
	defer response.Body.Close()
	return response.StatusCode
}

func main() {
	secret := os.Getenv("CLIENT_SECRET")
	found := map[string]any{
		"header":       call(oauth2.AuthStyleInHeader, secret),
		"body":         call(oauth2.AuthStyleInParams, secret),
		"wrong_secret": call(oauth2.AuthStyleInHeader, "not the secret"),
	}
	text, _ := json.Marshal(found)
	fmt.Println(string(text))
}
