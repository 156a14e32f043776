using System.Net;
using Pandora.Client;
using Pandora.HostTests.World;
using Pandora.Prove;
using Pandora.Prove.Checks;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>The stage that './pandora prove' uses.</summary>
public sealed class StageFixture : IAsyncLifetime
{
    internal Stage Stage { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Stage = await Stage.CreateAsync();

    public ValueTask DisposeAsync() => Stage?.DisposeAsync() ?? ValueTask.CompletedTask;
}

/// <summary>The checks of './pandora prove', one test each, and tests that need a package mirror or the link's MTU.</summary>
public sealed class IsolationTests(StageFixture fixture) : IClassFixture<StageFixture>, IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    private static IEnumerable<Check> Checks => [.. Isolation.All, .. NetworkProtection.All, .. Lifecycle.All];

    public static TheoryData<string> Names => [.. Checks.Select(c => c.Name)];

    public async ValueTask InitializeAsync() =>
        _sandbox = await fixture.Stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _sandbox.DisposeAsync();
        }
        catch (SandboxGoneException)
        {
            // A check has killed it.
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public async Task The_check_holds(string name) =>
        Assert.NotEmpty(await Checks.Single(c => c.Name == name).RunAsync(fixture.Stage, _sandbox));

    [Fact]
    public async Task A_package_is_installed_from_a_mirror_over_the_network()
    {
        // The original Pandora's example, with a mirror in the test world. The host's apt downloads the packages that the mirror serves.
        var mirror = Directory.CreateTempSubdirectory("pandora-mirror-");
        try
        {
            await Pandora.Linux.Command.RunAsync(
                "sh",
                [
                    "-ec",
                    "cd \"$1\"; apt-get -q -o APT::Sandbox::User=root download cowsay libtext-charwidth-perl; for f in *.deb; do "
                        + "dpkg-deb -f \"$f\"; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \"$f\" \"$(stat -c %s \"$f\")\" "
                        + "\"$(sha256sum \"$f\" | cut -d' ' -f1)\"; done > Packages",
                    "mirror",
                    mirror.FullName,
                ]);
            using var server = new FileServer(
                fixture.Stage.World.Internet,
                IPAddress.Parse(TestWorld.InternetAddress),
                80,
                mirror.FullName);
            var result = await _sandbox.ExecAsync(
                "echo 'deb [trusted=yes] http://mirror.example/ ./' > /etc/apt/sources.list && apt-get update -q && apt-get install "
                    + "-q -y cowsay && /usr/games/cowsay moo",
                new ExecOptions { Timeout = TimeSpan.FromSeconds(200) });
            Assert.True(result.ExitCode == 0, result.Stdout + result.Stderr);
            Assert.Contains("< moo >", result.Stdout);
        }
        finally
        {
            mirror.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task The_guest_has_the_MTU_of_the_uplink() =>
        Assert.Equal("1400\n", (await _sandbox.ExecAsync("cat /sys/class/net/eth0/mtu")).Stdout);
}
