<?php
// Redirects to its own address in full, which was the rule before RFC 7231, with the scheme that a proxy tells.
session_start();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $_SESSION['user'] = $_POST['user'];
    setcookie('seen', 'yes', ['path' => '/', 'httponly' => true]);
    $scheme = $_SERVER['HTTP_X_FORWARDED_PROTO'] ?? 'http';
    header("Location: $scheme://{$_SERVER['HTTP_HOST']}/index.php");
    exit;
}
?>
<form method="post" action="login.php"><input name="user"></form>
