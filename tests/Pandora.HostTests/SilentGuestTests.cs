using Pandora.Client;
using Pandora.Proof.World;

namespace Pandora.HostTests;

/// <summary>A VMM that says yes to everything, and no guest behind it: Firecracker on a KVM that cannot run it, played by the double.</summary>
public sealed class SilentGuestTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task A_guest_that_never_answers_is_a_failed_boot_that_is_told_and_undone()
    {
        Assert.SkipUnless(CanOpenKvm(), "/dev/kvm cannot be written to here, so Firecracker would not be started at all");
        await using var server = await ServerProcess.StartAsync(_world, new()
        {
            ["PANDORA_VMM"] = "firecracker", ["PANDORA_ACCEL"] = "kvm", ["PANDORA_JAIL"] = "false", ["PANDORA_POOL_SIZE"] = "0", ["PANDORA_BOOT_TIMEOUT"] = "5", ["PANDORA_ACQUIRE_TIMEOUT"] = "8",
            ["PANDORA_FIRECRACKER"] = Path.Combine(Repository.Root, "artifacts/bin/Pandora.FirecrackerDouble/release/firecracker"),
        });
        var error = await Assert.ThrowsAsync<SandboxUnavailableException>(() => server.Pandora.CreateAsync());
        Assert.Contains("boot failed at step 'guest': not ready within 5 s", error.Message);
        Assert.Contains("a line of the guest's console", server.Log);
        Assert.Matches(@"pandora_warm_boot_failures_total\{[^}]*step=""guest""[^}]*\} 1\b", await server.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative)));
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
