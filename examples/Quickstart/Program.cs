using Pandora.Client;

var url = args.Length > 0 ? args[0] : "http://127.0.0.1:8000";

using var pandora = new PandoraClient(url);
await using var sandbox = await pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromMinutes(2) });
Console.WriteLine($"claimed in {sandbox.AcquireTime!.Value.TotalMilliseconds} ms");

var hello = await sandbox.ExecAsync("echo hello > /root/greeting && uname -sm");
Console.WriteLine($"{hello.Stdout.Trim()} ({hello.Duration.TotalMilliseconds} ms)");

var kept = await sandbox.ExecAsync("cat /root/greeting; exit 3");
Console.WriteLine($"{kept.Stdout.Trim()}, exit code {kept.ExitCode}");
