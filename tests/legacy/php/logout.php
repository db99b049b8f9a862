<?php
session_start();
session_destroy();
setcookie('seen', '', ['path' => '/', 'expires' => 1]);
header('Refresh: 0; url=/login.php');
echo 'Good bye';
