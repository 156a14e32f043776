namespace Pandora.HostTests;

// What people expect to find in a guest, whichever way runs commands. Nothing here needs the internet.
public sealed partial class AgentCommandTests
{
    [Theory]
    [InlineData(null, "pip")]
    [InlineData("user", "python3 -m pip")]
    public async Task Pip_installs_packages(string? user, string pip)
    {
        // A wheel is a ZIP archive: packaging.python.org, "Binary distribution format".
        await WriteAsync("/tmp/make.py", """
            import zipfile
            info = "greeter-1.0.dist-info/"
            files = {
                "greeter.py": "def main(): print('hello from a package')\n",
                info + "METADATA": "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n",
                info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                info + "entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
            }
            files[info + "RECORD"] = "".join(name + ",,\n" for name in files) + info + "RECORD,,\n"
            with zipfile.ZipFile("/tmp/greeter-1.0-py3-none-any.whl", "w") as wheel:
                for name, text in files.items():
                    wheel.writestr(name, text)
            """);
        await OutputAsync("python3 /tmp/make.py");
        var installed = await RunAsync($"{pip} install --no-index /tmp/greeter-1.0-py3-none-any.whl", As(user, seconds: 300));
        Assert.True(installed.ExitCode == 0, installed.Stdout + installed.Stderr);
        Assert.Contains("Successfully installed greeter-1.0", installed.Stdout);
        Assert.DoesNotContain("externally-managed", installed.Stderr);
        Assert.Equal("hello from a package\n", await OutputAsync("python3 -c 'import greeter; greeter.main()'", As(user)));
        Assert.Equal("hello from a package\n", await OutputAsync("PATH=$PATH:~/.local/bin greet", As(user)));
    }

    [Fact]
    public async Task Time_zones_are_known()
    {
        Assert.Equal("02:00 +0200\n", await OutputAsync("TZ=Europe/Berlin date -d '2024-07-01 00:00Z' '+%H:%M %z'"));
        Assert.Equal("20:00 EDT\n", await OutputAsync("TZ=America/New_York date -d '2024-07-01 00:00Z' '+%H:%M %Z'", As("user")));
        Assert.Equal("5:45:00\n", await OutputAsync(
            """
            python3 -c '
            import datetime, zoneinfo
            print(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Kathmandu")).utcoffset())
            '
            """));
        Assert.Equal("UTC\n", await OutputAsync("date +%Z"));
    }

    [Theory]
    [MemberData(nameof(Users))]
    public async Task Ping_works_for_every_user(string? user)
    {
        Assert.Contains("1 received", await OutputAsync("ping -c1 -W5 127.0.0.1", As(user)));
        Assert.Contains("1 received", await OutputAsync("ping -c1 -W5 localhost", As(user)));
        Assert.Contains("1 received", await OutputAsync("ping -6 -c1 -W5 ::1", As(user)));
    }

    [Fact]
    public async Task Local_names_have_addresses_of_both_kinds()
    {
        Assert.Equal("::1\n", await OutputAsync("getent hosts ::1 | cut -d' ' -f1"));
        Assert.Equal("::1\n", await OutputAsync("getent ahostsv6 localhost | head -n1 | cut -d' ' -f1", As("user")));
        Assert.Equal("127.0.0.1\n", await OutputAsync("getent ahostsv4 localhost | head -n1 | cut -d' ' -f1"));
        Assert.NotEqual("", await OutputAsync("getent hosts localhost"));
        // The guest's own name, which sudo looks up.
        Assert.NotEqual("", await OutputAsync("getent hosts $(hostname)"));
        Assert.Equal("root\n", await OutputAsync("sudo id -un", As("user")));
        Assert.Equal("200\n", await OutputAsync(
            """
            python3 -m http.server --bind ::1 8080 > /dev/null 2>&1 & p=$!
            curl -s -o /dev/null -w '%{http_code}\n' --retry 20 --retry-connrefused --retry-delay 1 'http://[::1]:8080/'; kill $p
            """));
    }

    [Fact]
    public async Task File_systems_can_be_mounted()
    {
        Assert.Equal("here\n", await OutputAsync(
            "mount -t tmpfs -o size=1M none /mnt && echo here > /mnt/f && mount --bind /mnt /srv && cat /srv/f && umount /srv /mnt"));
        Assert.Equal("gone\n", await OutputAsync("[ -e /mnt/f ] || echo gone"));
        Assert.Equal("tmpfs\n", await OutputAsync("sudo mount -t tmpfs none /mnt; findmnt -no FSTYPE /mnt; sudo umount /mnt", As("user")));
        // A mount outlives its command.
        await OutputAsync("mount -t tmpfs none /mnt; touch /mnt/kept");
        Assert.Equal("kept\n", await OutputAsync("ls /mnt", As("user")));
    }

    [Theory]
    [MemberData(nameof(Users))]
    public async Task Usual_tools_are_there_and_work(string? user)
    {
        Assert.Equal("one\ntwo\n", await OutputAsync(
            """
            d=$(mktemp -d); cd $d
            python3 -c 'import zipfile; z = zipfile.ZipFile("a.zip", "w"); z.writestr("d/one", "one\n"); z.writestr("two", "two\n")'
            unzip -q a.zip; cat d/one two
            """,
            As(user)));
        Assert.Equal("whole\n", await OutputAsync(
            "d=$(mktemp -d); cd $d; echo whole > f; xz f; tar -cJf a.tar.xz f.xz; rm f.xz; tar -xJf a.tar.xz; xz -dc f.xz", As(user)));
        Assert.Contains("ELF 64-bit", await OutputAsync("file -L /bin/bash", As(user)));
        Assert.Contains("JSON", await OutputAsync("cd $(mktemp -d); echo '{\"a\": 1}' > a; file a", As(user)));
        Assert.Equal("f\n", await OutputAsync(
            "cd $(mktemp -d); exec 5> f; basename $(lsof -p $$ -a -d 5 -Fn | sed -n 's/^n//p')", As(user)));
        Assert.Equal("fetched\n", await OutputAsync(
            """
            cd $(mktemp -d); echo fetched > page
            python3 -m http.server --bind 127.0.0.1 8081 > /dev/null 2>&1 & p=$!
            wget -q --tries=20 --retry-connrefused --waitretry=1 -O got http://127.0.0.1:8081/page; cat got; kill $p
            """,
            As(user)));
        Assert.Equal("in order\n", await OutputAsync("for tool in less git curl sudo ps ss ip gzip tar sed awk find xargs; do "
            + "command -v $tool > /dev/null || echo no $tool; done; echo in order", As(user)));
    }
}
