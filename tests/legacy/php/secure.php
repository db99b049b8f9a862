<?php
// Takes nothing but https, and believes the balancer before it: in clear text it redirects to itself.
$host = $_SERVER['HTTP_X_FORWARDED_HOST'] ?? $_SERVER['HTTP_HOST'];
if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? 'http') !== 'https') {
    header("Location: https://$host/secure.php");
    exit;
}
setcookie('safe', 'yes', ['path' => '/', 'secure' => true]);
header('Content-Type: text/plain');
$port = parse_url("https://$host", PHP_URL_PORT);
echo "https://$host/secure.php, ", $_SERVER['HTTP_X_FORWARDED_PORT'] === "$port" ? 'the same port' : 'another port', "\n";
