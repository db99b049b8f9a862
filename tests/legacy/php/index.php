<?php
// The start page says who is logged in, or leads to the login.
session_start();
if (!isset($_SESSION['user'])) {
    header('Location: login.php?back=index.php');
    exit;
}
?>
<p>Hello, <?= htmlspecialchars($_SESSION['user']) ?></p>
<a href="upload.php">Upload</a>
