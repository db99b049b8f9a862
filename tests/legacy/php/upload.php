<?php
header('Content-Type: text/plain');
if (isset($_FILES['file'])) {
    $file = $_FILES['file'];
    echo "file {$file['name']}, {$file['size']} bytes, ", md5_file($file['tmp_name']), ', note ', $_POST['note'], "\n";
} else {
    $body = file_get_contents('php://input');
    echo $_SERVER['REQUEST_METHOD'], ': ', strlen($body), ' bytes, ', md5($body), "\n";
}
