using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Ssh;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>
/// Guests that never answer. The Firecracker double accepts every call and runs no guest, like Firecracker on a KVM that cannot run it.
/// </summary>
public sealed class SilentGuestTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task A_guest_that_never_answers_is_a_failed_boot_that_is_reported_and_cleaned_up()
    {
        Assert.SkipUnless(CanOpenKvm(), "/dev/kvm cannot be written to here, so Firecracker would not be started at all");
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_VMM"] = "firecracker",
                ["PANDORA_ACCEL"] = "kvm",
                ["PANDORA_JAIL"] = "false",
                ["PANDORA_POOL_SIZE"] = "0",
                ["PANDORA_BOOT_TIMEOUT"] = "5",
                ["PANDORA_ACQUIRE_TIMEOUT"] = "8",
                ["PANDORA_FIRECRACKER"] = Path.Combine(Repository.Root, "artifacts/bin/Pandora.FirecrackerDouble/release/firecracker"),
            });
        var error = await Assert.ThrowsAsync<SandboxUnavailableException>(() => server.Pandora.CreateAsync());
        Assert.Contains("boot failed at step 'guest': not ready within 5 s", error.Hint);
        Assert.Contains("a line of the guest's console", server.Log);
        Assert.Matches(
            @"pandora_warm_boot_failures_total\{[^}]*step=""guest""[^}]*\} 1\b",
            await server.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative)));
    }

    [Fact]
    public async Task An_SSH_server_that_sends_only_its_version_is_given_up_when_the_callers_time_is_over()
    {
        var address = IPAddress.Parse("127.83.72.22");
        using var server = new TcpListener(address, 22);
        try
        {
            server.Start();
        }
        catch (SocketException e)
        {
            Assert.Skip($"another SSH server listens on all addresses of this host: {e.Message}");
        }

        var directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;
        try
        {
            using var key = await ClientKey.LoadAsync(directory, CancellationToken.None);
            using var limit = new CancellationTokenSource();
            var connecting = new SshLogin(address, key, [1], TimeProvider.System).ConnectAsync(limit.Token);
            // The library blocks a thread of the pool, and its time limit would end the attempt with an error of its own: the guest has a
            // thread of its own, so that the cancellation does not wait for the pool.
            using var guest = await Task.Factory.StartNew(
                () => AnswerAndCancel(server, limit), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private static TcpClient AnswerAndCancel(TcpListener server, CancellationTokenSource limit)
    {
        var guest = server.AcceptTcpClient();
        guest.GetStream().Write("SSH-2.0-silent\r\n"u8);
        // The library answers the version. From here on it waits for keys, and does not observe the cancellation token.
        guest.GetStream().ReadAtLeast(new byte[200], 200);
        limit.Cancel();
        return guest;
    }

    private static bool CanOpenKvm()
    {
        try
        {
            using var kvm = new FileStream("/dev/kvm", FileMode.Open, FileAccess.ReadWrite);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
