# ruby-jwt, with tokens of each algorithm that it knows.
require "json"
require "jwt"
require "net/http"

def fetch(url)
  uri = URI(url)
  Net::HTTP.start(uri.host, uri.port, use_ssl: true, ca_file: ENV.fetch("CA")) { |http| http.get(uri.path).body }
end

def verify(each, token)
  expected = { algorithms: [each["algorithm"]], jwks: JSON.parse(fetch(each["jwks_uri"]), symbolize_names: true) }
  expected.update(iss: each["issuer"], verify_iss: true, aud: "https://api.example.com", verify_aud: true)
  JWT.decode(token, nil, true, expected).first["sub"]
end

def refusal(each, token)
  verify(each, token)
  nil
rescue JWT::VerificationError => error
  error.class.name
end

found = JSON.parse(ENV.fetch("CASES")).to_h do |each|
  head, body, signature = each["token"].split(".")
  changed = [head, body, (signature[0] == "A" ? "B" : "A") + signature[1..]].join(".")
  [each["algorithm"], [verify(each, each["token"]), refusal(each, changed)]]
end
puts JSON.generate(found)
